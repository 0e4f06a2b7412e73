// kubebox is all of Kubernetes' programs and etcd in one: linked once, it is a tenth of their size together, and one image
// serves the whole control plane. Which program it is says the name that it is started by, or its first argument.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata" // for CronJobs with a time zone

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	kubeapiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kubecontrollermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubescheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app"
	kubeadmerrors "k8s.io/kubernetes/cmd/kubeadm/app/util/errors"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func program(name string) func() {
	served := func(command *cobra.Command) func() { return func() { os.Exit(cli.Run(command)) } }
	switch name {
	case "etcd":
		return func() { etcdmain.Main(os.Args) }
	case "kubeadm":
		return func() { kubeadmerrors.HandleError(kubeadm.Run()) }
	case "kubectl":
		return func() {
			_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(os.Args)) // a bad level is reported by the flag's parser
			if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
				kubectlutil.CheckErr(err)
			}
		}
	case "kubelet":
		return served(kubelet.NewKubeletCommand(context.Background()))
	case "kube-apiserver":
		return served(kubeapiserver.NewAPIServerCommand())
	case "kube-controller-manager":
		return served(kubecontrollermanager.NewControllerManagerCommand())
	case "kube-scheduler":
		return served(kubescheduler.NewSchedulerCommand())
	case "kube-proxy":
		return served(kubeproxy.NewProxyCommand())
	}
	return nil
}

func main() {
	run := program(filepath.Base(os.Args[0]))
	if run == nil && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		run = program(os.Args[0])
	}
	if run == nil {
		fmt.Fprintln(os.Stderr, "kubebox: start it by the name of one of Kubernetes' programs, or name one first")
		os.Exit(2)
	}
	run()
}
