//! The manifests, held against Kubernetes' own types and against the guide's.
//!
//! A manifest is read into the type of its kind and written again: a field that does not come back is one that
//! Kubernetes would drop or refuse.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::files::{document, documents, files_below, read};
use crate::guide;

const FOLDER: &str = "deploy/kubernetes";

/// Gives all documents of all manifests.
pub fn manifests() -> Vec<Value> {
    let files = files_below(FOLDER, ".yaml");
    let files = files.iter().filter(|file| !file.ends_with("kustomization.yaml"));
    let read = |path: &Path| std::fs::read_to_string(path).expect("readable");
    files
        .flat_map(|file| documents(&file.display().to_string(), &read(file)))
        .collect()
}

/// Gives the manifest of this kind and name.
pub fn manifest(kind: &str, name: &str) -> Value {
    let mut all = manifests().into_iter();
    let found = all.find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// Says which fields of a manifest its type does not know.
fn unknown_fields(manifest: &Value) -> Vec<String> {
    let api = manifest["apiVersion"].as_str().unwrap_or_default();
    let kind = manifest["kind"].as_str().unwrap_or_default();
    let back = match (api, kind) {
        ("v1", "Namespace") => there_and_back::<Namespace>(manifest),
        ("v1", "ConfigMap") => there_and_back::<ConfigMap>(manifest),
        ("v1", "Secret") => there_and_back::<Secret>(manifest),
        ("v1", "Service") => there_and_back::<Service>(manifest),
        ("apps/v1", "Deployment") => there_and_back::<Deployment>(manifest),
        ("apps/v1", "StatefulSet") => there_and_back::<StatefulSet>(manifest),
        ("networking.k8s.io/v1", "NetworkPolicy") => there_and_back::<NetworkPolicy>(manifest),
        ("policy/v1", "PodDisruptionBudget") => there_and_back::<PodDisruptionBudget>(manifest),
        _ => return vec![format!("no type is known for {api} {kind}")],
    };
    match back {
        Ok(back) => {
            let mut lost = Vec::new();
            compare(manifest, &back, kind, &mut lost);
            lost
        }
        Err(error) => vec![format!("{kind}: {error}")],
    }
}

fn there_and_back<Kind: DeserializeOwned + Serialize>(manifest: &Value) -> serde_json::Result<Value> {
    serde_json::to_value(serde_json::from_value::<Kind>(manifest.clone())?)
}

fn compare(before: &Value, after: &Value, path: &str, lost: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let path = format!("{path}.{key}");
                match after.get(key) {
                    Some(after) => compare(value, after, &path, lost),
                    None => lost.push(path),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                compare(before, after, &format!("{path}[{index}]"), lost);
            }
        }
        _ if before == after => {}
        _ => lost.push(format!("{path}: {before} became {after}")),
    }
}

#[test]
fn every_manifest_is_what_kubernetes_knows() {
    let manifests = manifests();
    assert!(manifests.len() >= 11, "{} documents", manifests.len());
    let unknown: Vec<String> = manifests.iter().flat_map(unknown_fields).collect();
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    // The guide's own blocks stand the same test, and a typing error does not.
    for kind in [
        "kind: Namespace",
        "kind: ConfigMap",
        "kind: Deployment",
        "kind: Service",
    ] {
        assert_eq!(unknown_fields(&guide::yaml(kind)), Vec::<String>::new(), "{kind}");
    }
    let mut broken = manifest("Deployment", "monitoring-alerting");
    broken["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = Value::Bool(true);
    assert_eq!(
        unknown_fields(&broken),
        ["Deployment.spec.template.spec.containers[0].readynessProbe"]
    );
}

#[test]
fn the_manifests_hold_everything_that_the_guides_do() {
    for (kind, name) in [
        ("Namespace", "marketprism-monitoring"),
        ("ConfigMap", "monitoring-alerting-config"),
        ("Deployment", "monitoring-alerting"),
        ("Service", "monitoring-alerting-service"),
    ] {
        let mut theirs = guide::yaml(&format!("kind: {kind}"));
        let mut ours = manifest(kind, name);
        if kind == "ConfigMap" {
            // A file within the file: compared by what it says.
            for side in [&mut ours, &mut theirs] {
                let text = side["data"]["config.yaml"]
                    .as_str()
                    .expect("the guide's key")
                    .to_owned();
                side["data"]["config.yaml"] = document("config.yaml", &text);
            }
        }
        guide::assert_contains(&ours, &theirs, kind);
    }
    let resources = guide::yaml("# Kubernetes资源限制");
    let ours = manifest("Deployment", "monitoring-alerting");
    let container = &ours["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"], resources["resources"]);
}

#[test]
fn selectors_find_their_pods_and_references_their_secrets() {
    let all = manifests();
    for one in &all {
        let is_the_namespace = one["kind"] == "Namespace";
        let namespace = if is_the_namespace {
            &one["metadata"]["name"]
        } else {
            &one["metadata"]["namespace"]
        };
        assert_eq!(namespace, "marketprism-monitoring", "{one}");
    }
    let pods: Vec<&Value> = all
        .iter()
        .map(|one| &one["spec"]["template"])
        .filter(|pod| !pod.is_null())
        .collect();
    assert_eq!(pods.len(), 2);
    let finds_pods = |labels: &Value| {
        let labels = labels.as_object().expect("labels");
        pods.iter()
            .filter(|pod| {
                labels
                    .iter()
                    .all(|(name, value)| &pod["metadata"]["labels"][name] == value)
            })
            .count()
    };
    for one in &all {
        let spec = &one["spec"];
        let labels = match one["kind"].as_str() {
            Some("Service") => &spec["selector"],
            Some("Deployment" | "StatefulSet" | "PodDisruptionBudget") => &spec["selector"]["matchLabels"],
            Some("NetworkPolicy") => &spec["podSelector"]["matchLabels"],
            _ => continue,
        };
        assert_eq!(finds_pods(labels), 1, "{labels} of {}", one["metadata"]["name"]);
    }
    let service = manifest("Service", "monitoring-alerting-service");
    let deployment = manifest("Deployment", "monitoring-alerting");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        service["spec"]["ports"][0]["targetPort"],
        container["ports"][0]["containerPort"]
    );
    let stateful = manifest("StatefulSet", "postgresql");
    assert_eq!(
        stateful["spec"]["serviceName"],
        manifest("Service", "postgresql")["metadata"]["name"]
    );
}

/// Gives a container's variables as Kubernetes would, the pod's address and the given secrets filled in.
pub fn environment(container: &Value, secrets: &BTreeMap<(String, String), String>) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for variable in container["env"].as_array().expect("variables") {
        let name = variable["name"].as_str().expect("a name").to_owned();
        let secret = &variable["valueFrom"]["secretKeyRef"];
        let value = if let Some(value) = variable["value"].as_str() {
            // `$(NAME)` takes a variable that stands further up.
            found.iter().fold(value.to_owned(), |value, (name, filled)| {
                value.replace(&format!("$({name})"), filled)
            })
        } else if secret.is_object() {
            let text = |key: &str| secret[key].as_str().expect("a text").to_owned();
            let key = (text("name"), text("key"));
            secrets
                .get(&key)
                .unwrap_or_else(|| panic!("no secret {key:?}"))
                .clone()
        } else {
            assert_eq!(
                variable["valueFrom"]["fieldRef"]["fieldPath"], "status.podIP",
                "{variable}"
            );
            "127.0.0.1".to_owned()
        };
        found.push((name, value));
    }
    found
}

/// Gives all secrets of the manifests by name and key.
pub fn secrets() -> BTreeMap<(String, String), String> {
    let all = manifests().into_iter().filter(|one| one["kind"] == "Secret");
    let pairs = all.flat_map(|one| {
        let name = one["metadata"]["name"].as_str().expect("a name").to_owned();
        let data = one["stringData"].as_object().expect("plain texts").clone();
        data.into_iter()
            .map(move |(key, value)| ((name.clone(), key), value.as_str().expect("a text").to_owned()))
    });
    pairs.collect()
}

#[test]
fn every_container_finds_its_variables_and_volumes() {
    let secrets = secrets();
    for (kind, name) in [
        ("Deployment", "monitoring-alerting"),
        ("StatefulSet", "postgresql"),
    ] {
        let one = manifest(kind, name);
        let pod = &one["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let variables = environment(container, &secrets);
        assert!(
            variables.iter().all(|(_, value)| !value.contains("$(")),
            "{variables:?}"
        );
        let claims = one["spec"]["volumeClaimTemplates"]
            .as_array()
            .into_iter()
            .flatten();
        let volumes = pod["volumes"].as_array().into_iter().flatten();
        let names: Vec<&Value> = volumes
            .map(|volume| &volume["name"])
            .chain(claims.map(|claim| &claim["metadata"]["name"]))
            .collect();
        for mount in container["volumeMounts"].as_array().expect("mounts") {
            assert!(names.contains(&&mount["name"]), "{mount}");
        }
    }
    let configured = manifest("Deployment", "monitoring-alerting");
    let variables = environment(&configured["spec"]["template"]["spec"]["containers"][0], &secrets);
    let advertised = variables.iter().find(|(name, _)| name == "MARKETPRISM_ADVERTISE");
    assert_eq!(
        advertised.map(|(_, value)| value.as_str()),
        Some("127.0.0.1:8082")
    );
    let (password, url) = (
        &secrets[&key("database-secret", "password")],
        &secrets[&key("database-secret", "url")],
    );
    assert!(url.contains(&format!(":{password}@postgresql:5432/")), "{url}");
}

fn key(name: &str, key: &str) -> (String, String) {
    (name.to_owned(), key.to_owned())
}

#[test]
fn the_configuration_in_the_configmap_passes_our_own_check() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("config.yaml");
    let map = manifest("ConfigMap", "monitoring-alerting-config");
    std::fs::write(
        &file,
        map["data"]["config.yaml"].as_str().expect("the guide's key"),
    )
    .expect("write the file");
    let deployment = manifest("Deployment", "monitoring-alerting");
    let mut secrets = secrets();
    secrets.insert(
        key("jwt-secret", "secret"),
        "0123456789abcdef0123456789abcdef".to_owned(),
    );
    let variables = environment(&deployment["spec"]["template"]["spec"]["containers"][0], &secrets);
    let output = Command::new(env!("CARGO_BIN_EXE_marketprism"))
        .args(["check", "config"])
        .arg(&file)
        .env_clear()
        .envs(variables)
        .output()
        .expect("our own program");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_kustomization_holds_every_manifest_that_is_not_optional() {
    let file = format!("{FOLDER}/kustomization.yaml");
    let kustomization = document(&file, &read(&file));
    let mut listed: Vec<String> =
        serde_json::from_value(kustomization["resources"].clone()).expect("a list of names");
    assert_eq!(listed[0], "namespace.yaml", "what stands in it comes after it");
    listed.sort();
    let files = files_below(FOLDER, ".yaml");
    let names = files
        .iter()
        .filter(|file| file.parent().is_some_and(|folder| folder.ends_with(FOLDER)));
    let names = names.map(|file| file.file_name().expect("a name").to_string_lossy().into_owned());
    let names: Vec<String> = names.filter(|name| name != "kustomization.yaml").collect();
    assert_eq!(listed, names);
}
