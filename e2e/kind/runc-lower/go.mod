module ursamesh.io/e2e/kind/runc-lower

go 1.22
