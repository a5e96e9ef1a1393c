//! The Kubernetes manifest: it fits the schemas of Kubernetes, and says what a
//! load balancer of datagrams needs said. No cluster runs it here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use support::python_tool;

fn manifest() -> PathBuf {
    support::repository().join("config/kubernetes/viaduct.yaml")
}

fn validate(file: &Path) -> Output {
    let mut command = python_tool("kubernetes-validate");
    command.args(["--strict", "--quiet"]).arg(file);
    command.output().expect("an end")
}

/// The manifest's objects, by kind.
fn objects() -> Vec<Value> {
    let script =
        "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)";
    let file = fs::File::open(manifest()).expect("the manifest");
    let mut python = python_tool("python");
    let output = python.args(["-c", script]).stdin(file).output();
    let output = output.expect("an end");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn object(kind: &str) -> Value {
    let mut found = objects()
        .into_iter()
        .filter(|object| object["kind"] == kind);
    found.next().unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
fn the_manifest_fits_the_schemas() {
    let output = validate(&manifest());
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_fault_in_the_manifest_would_be_seen() {
    let text = fs::read_to_string(manifest()).expect("the manifest");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("faulty.yaml");
    for (right, wrong) in [
        ("hostNetwork: true", "hostNetworks: true"),
        ("periodSeconds: 5", "periodSeconds: often"),
    ] {
        assert!(text.contains(right));
        fs::write(&file, text.replace(right, wrong)).expect("a file");
        assert!(!validate(&file).status.success(), "{wrong}");
    }
}

#[test]
fn a_node_is_served_by_its_own_network_and_left_when_calls_have_ended() {
    let daemon_set = object("DaemonSet");
    let pod = &daemon_set["spec"]["template"]["spec"];
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["dnsPolicy"], "ClusterFirstWithHostNet");
    let update = &daemon_set["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!(update["maxUnavailable"], 1);
    let container = &pod["containers"][0];
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["host"], "127.0.0.1");
        assert_eq!(container[probe]["httpGet"]["port"], 8060);
    }
    // Timer B behind the pause (RFC 3261 §17.1.1.2), and 5 s for accounting, the
    // mirror and the log.
    let pause = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
    let pause = pause.expect("a pause before SIGTERM");
    let grace = pod["terminationGracePeriodSeconds"].as_u64();
    let grace = grace.expect("a time to end in");
    assert!(grace >= pause + 32 + 5, "{grace} s, with {pause} s before");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
}

#[test]
fn its_configuration_is_good() {
    let text = object("ConfigMap")["data"]["viaduct.toml"].take();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("viaduct.toml");
    fs::write(&file, text.as_str().expect("a text")).expect("a file");
    let mut command = Command::new(support::program());
    command.arg("check").arg("--config").arg(file);
    let daemon_set = object("DaemonSet");
    let container = &daemon_set["spec"]["template"]["spec"]["containers"][0];
    for variable in container["env"].as_array().expect("variables") {
        let name = variable["name"].as_str().expect("a name");
        let value = variable["value"].as_str().unwrap_or("192.0.2.10");
        command.env(name, value.replace("$(NODE)", "192.0.2.10"));
    }
    let output = command.output().expect("an end");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for wanted in [
        "udp:192.0.2.10:5060, advertised as sip.example.com",
        "admin: http://127.0.0.1:8060",
    ] {
        assert!(said.contains(wanted), "no {wanted} in {said}");
    }
}
