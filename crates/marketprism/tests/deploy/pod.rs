//! The pod of the Deployment, run from the image: its configuration, its variables, its volumes, its rights.

use std::collections::BTreeMap;

use marketprism_testkit::is_true_within;
use serde_json::Value;

use crate::container::{Container, Plan};
use crate::image::{Image, image, lay};
use crate::kubernetes::{environment, manifest, secrets};
use crate::program::PATIENCE;
use crate::service::{USER, volume};

type Secrets = BTreeMap<(String, String), String>;

/// Starts the pod's container; what the database is told is left out, so that a replica stands alone.
fn start(home: &tempfile::TempDir, image: &Image, secrets: &Secrets) -> Container {
    let deployment = manifest("Deployment", "monitoring-alerting");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], USER);
    assert_eq!(image.user, format!("{USER}:{USER}"));
    let mut plan = Plan::of(image);
    plan.is_root_read_only = true;
    plan.environment = environment(container, secrets);
    plan.environment
        .retain(|(name, _)| !["DATABASE_URL", "MARKETPRISM_ADVERTISE"].contains(&name.as_str()));
    let volumes = pod["volumes"].as_array().expect("volumes");
    for mount in container["volumeMounts"].as_array().expect("mounts") {
        let source = volumes
            .iter()
            .find(|volume| volume["name"] == mount["name"])
            .expect("checked elsewhere");
        let name = mount["name"].as_str().expect("a name");
        let folder = match source["configMap"]["name"].as_str() {
            Some(map) => laid(home, &manifest("ConfigMap", map)),
            None => volume(home, name),
        };
        plan = plan.volume(&folder, mount["mountPath"].as_str().expect("a path"));
    }
    plan.start()
}

/// Lays the keys of a ConfigMap as files, as a kubelet does.
fn laid(home: &tempfile::TempDir, map: &Value) -> std::path::PathBuf {
    let folder = home.path().join("configmap");
    for (name, text) in map["data"].as_object().expect("keys") {
        lay(&folder.join(name), text.as_str().expect("a text"));
    }
    folder
}

fn jwt_secret() -> (String, String) {
    ("jwt-secret".to_owned(), "secret".to_owned())
}

#[test]
fn the_pod_starts_with_a_read_only_root_and_passes_its_probes() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut secrets = secrets();
    secrets.insert(jwt_secret(), "0123456789abcdef0123456789abcdef".to_owned());
    let mut container = start(&home, image(), &secrets);
    container.wait_until_ready();
    let deployment = manifest("Deployment", "monitoring-alerting");
    let probed = &deployment["spec"]["template"]["spec"]["containers"][0];
    for probe in ["livenessProbe", "readinessProbe"] {
        let path = probed[probe]["httpGet"]["path"].as_str().expect("a path");
        let url = format!("http://localhost:8082{path}");
        let passes = || container.exec(&["curl", "-f", &url]).status.success();
        assert!(is_true_within(PATIENCE, passes), "{probe}: {}", container.log());
    }
    let refused = container.exec(&["touch", "/app/file"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Read-only file system"));
}

#[test]
fn the_placeholder_of_the_jwt_secret_is_refused_aloud() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let secrets = secrets();
    let mut container = start(&home, image(), &secrets);
    let line = container.wait_for_line("jwt_secret");
    assert!(
        !line.contains(&secrets[&jwt_secret()]),
        "the secret is not told: {line}"
    );
    assert!(!container.wait_for_exit().success());
}
