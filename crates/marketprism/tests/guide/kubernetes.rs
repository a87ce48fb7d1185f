//! The guide's second way: Kubernetes.

use std::fs;

use marketprism_testkit::{SmtpOptions, SmtpSecurity, SmtpServer, free_port, is_true_within};
use serde_json::Value;

use crate::compose::RULES;
use crate::guide::{Block, read, step};
use crate::host::Host;
use crate::program::{PATIENCE, Program};
use crate::settings::{Settings, VARIABLES};

/// The name that a manifest of the guide gives itself in its first line.
fn name(block: &Block) -> String {
    let first = block.text.lines().next().unwrap_or("");
    let name = first.strip_prefix("# ").expect("a comment with the file's name");
    name.to_owned()
}

fn yaml(name: &str, text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Gives what `ours` lacks of `theirs`; items of lists are known by their name, or by being equal.
fn lacking(ours: &Value, theirs: &Value, path: &str) -> Option<String> {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => theirs.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            // A file inside a ConfigMap is a document of its own.
            if key == "config.yaml" {
                let document = |value: &Value| yaml(&path, value.as_str().expect("a file"));
                return lacking(&document(&ours[key]), &document(value), &path);
            }
            lacking(ours.get(key).unwrap_or(&Value::Null), value, &path)
        }),
        (Value::Array(ours), Value::Array(theirs)) => theirs.iter().find_map(|item| {
            let is_held = ours.iter().any(|other| lacking(other, item, path).is_none());
            (!is_held).then(|| format!("{path}: {item}"))
        }),
        _ => (ours != theirs).then(|| format!("{path} is {ours}, in the guide {theirs}")),
    }
}

#[test]
fn each_manifest_is_shipped_with_all_that_the_guide_says() {
    let host = Host::new(&Settings(String::new()));
    let manifests = [
        step("方式二：Kubernetes部署 / 1. 创建命名空间"),
        step("方式二：Kubernetes部署 / 2. 创建ConfigMap"),
        step("方式二：Kubernetes部署 / 3. 创建Deployment"),
        step("方式二：Kubernetes部署 / 4. 创建Service"),
    ];
    for manifest in &manifests {
        host.lay(&name(manifest), &manifest.text);
    }
    host.run_well(&step("方式二：Kubernetes部署 / 5. 部署到Kubernetes"));
    assert_eq!(host.applied(), manifests.each_ref().map(name));
    for file in host.applied() {
        let theirs = fs::read_to_string(host.app().join(&file)).expect("laid above");
        let ours = read(&format!("deploy/kubernetes/{file}"));
        let lack = lacking(&yaml(&file, &ours), &yaml(&file, &theirs), &file);
        assert_eq!(lack, None);
    }
}

#[test]
fn the_configuration_of_the_config_map_runs_and_answers_the_probes() {
    let map = yaml(
        "configmap.yaml",
        &step("方式二：Kubernetes部署 / 2. 创建ConfigMap").text,
    );
    let deployment = yaml(
        "deployment.yaml",
        &step("方式二：Kubernetes部署 / 3. 创建Deployment").text,
    );
    let text = map["data"]["config.yaml"].as_str().expect("a file");
    let settings = Settings(text.to_owned());
    let mut program = Program::prepare(&settings.clone().with_mail_server(free_port(), "").0);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    // The guide's Deployment gives these two and no more: the rest has to have defaults.
    for variable in container["env"].as_array().expect("variables") {
        let name = variable["name"].as_str().expect("a name");
        let value = VARIABLES.iter().find(|(known, _)| *known == name);
        program.set_environment(name, value.expect("known").1);
    }
    program.launch(&[]);
    program.wait_until_ready();
    for probe in ["livenessProbe", "readinessProbe"] {
        let ask = &container[probe]["httpGet"];
        assert_eq!(ask["port"], container["ports"][0]["containerPort"]);
        let path = ask["path"].as_str().expect("a path");
        let (status, body) = crate::web::get(&(program.url() + path), &[]);
        assert_eq!(status, 200, "{probe}: {body}");
    }
    let rules = program.get_json("/prometheus/api/v1/rules");
    assert_eq!(rules["data"]["groups"][0]["interval"], 30);

    // The ConfigMap names neither user nor password: they come from the Secret through the environment.
    let (user, password) = (VARIABLES[0].1.to_owned(), VARIABLES[1].1.to_owned());
    let mail = SmtpServer::start(&SmtpOptions {
        security: SmtpSecurity::StartTls,
        credentials: Some((user.clone(), password)),
        port: 0,
    });
    let authority = format!("\n      ca_file: {}", mail.ca_file().display());
    let settings = settings
        .with_rules("rules.yaml")
        .at_a_quick_pace()
        .with_mail_server(mail.port(), &authority);
    assert!(program.stop().success());
    let lay = |name: &str, text: &str| fs::write(program.home().join(name), text).expect("write a file");
    lay("rules.yaml", RULES);
    lay("config.yaml", &settings.0);
    program.launch(&[]);
    let is_mailed = || {
        mail.mails()
            .iter()
            .any(|mail| mail.user.as_deref() == Some(&*user))
    };
    assert!(is_true_within(PATIENCE, is_mailed), "{}", program.log());
}

#[test]
fn the_limits_of_the_guide_are_those_of_the_deployment() {
    let theirs = yaml("the guide", &step("性能优化 / 资源限制").text);
    let ours = yaml("deployment.yaml", &read("deploy/kubernetes/deployment.yaml"));
    let container = &ours["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"], theirs["resources"]);
}
