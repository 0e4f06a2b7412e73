//! Workloads of the tests, as documents.

use std::fmt::Display;

/// A Deployment of one pod with the tests' program; further labels of the pod and fields of the container in flow style.
pub fn deployment(name: &str, arguments: &[impl Display], labels: &str, container: &str) -> String {
    let arguments: Vec<String> = arguments.iter().map(|argument| format!("\"{argument}\"")).collect();
    let arguments = arguments.join(", ");
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}}}, spec: {{replicas: 1, selector: {{matchLabels: {{app: {name}}}}}, \
         template: {{metadata: {{labels: {{app: {name}, {labels}}}}}, spec: {{terminationGracePeriodSeconds: 10, \
         containers: [{{name: app, image: IMAGE, imagePullPolicy: IfNotPresent, command: [/usr/local/bin/ursa-e2e-app, {arguments}], {container}}}]}}}}}}}}\n"
    )
}

/// A Service of the tests' servers; which pods, by labels in flow style.
pub fn service(name: &str, selector: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{selector: {{{selector}}}, ports: [\
         {{name: http, port: 80, targetPort: 8080, appProtocol: http}}, {{name: banner, port: 9000}}, {{name: echo, port: 9001}}]}}}}\n"
    )
}

/// A server with its Service, see [`Kind::server`].
pub fn server(name: &str) -> String {
    let arguments = ["serve", "--name", name, "--http", "8080", "--banner", "9000", "--echo", "9001"];
    let probe = "readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}";
    format!("{}---\n{}", deployment(name, &arguments, "", probe), service(name, &format!("app: {name}")))
}
