//! Judging files without running them, and printing the rules inside.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::bail;
use marketprism_model::Clock as _;
use marketprism_rules::{GroupDefaults, Loaded as LoadedRules};

use crate::check_routes;
use crate::clock::SystemClock;
use crate::config;
use crate::reload::words;

/// Judges a configuration and every rule file it names; the error names all faults.
pub fn config(file: &Path) -> anyhow::Result<String> {
    let loaded = config::load(Some(file), Path::new("data"), &|name| std::env::var(name).ok())?;
    let rules = marketprism_rules::load(
        &loaded.config.rule_files,
        &loaded.folder,
        &[],
        &GroupDefaults::default(),
    );
    let mut text = String::new();
    for remark in loaded.dotenv.remark().iter().chain(&loaded.remarks) {
        let _ = writeln!(text, "{remark}");
    }
    let mut faults = Vec::new();
    match loaded.config.server.ssl.prepare(SystemClock::default().now()) {
        Ok(tls) => {
            for warning in tls.iter().flat_map(|tls| tls.warnings()) {
                let _ = writeln!(text, "{}: server.ssl: {warning}", file.display());
            }
        }
        Err(error) => faults.push(format!("{}: {error}", file.display())),
    }
    let judged = judge(&rules).unwrap_or_else(|error| {
        faults.push(error.to_string());
        String::new()
    });
    if !faults.is_empty() {
        // What is remarked about the configuration helps with its other files, too.
        bail!("{text}{}", faults.join("\n"));
    }
    let (jobs, channels) = (loaded.pools.len(), loaded.channels.channels.len());
    let _ = writeln!(
        text,
        "{}: good; {jobs} scrape jobs, {channels} channels in use; {judged}",
        file.display()
    );
    text.push_str(&check_routes::picture(&loaded));
    Ok(text)
}

fn judge(rules: &LoadedRules) -> anyhow::Result<String> {
    if !rules.errors.is_empty() {
        bail!("{}", words(&rules.errors));
    }
    let mut text = String::new();
    for warning in &rules.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    let _ = write!(
        text,
        "{} rules in {} groups",
        rules.set.rule_count(),
        rules.set.groups().len()
    );
    Ok(text)
}

/// Gives the rules inside the program, file by file.
pub fn default_rules() -> String {
    let files = marketprism_rules::defaults().iter();
    files.map(|(name, text)| format!("# {name}\n{text}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_with_receivers_is_shown_as_a_tree() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.yaml");
        let text = "notification_manager:
  fallback_receiver: ops
  route:
    receiver: ops
    group_by: [alertname, cluster]
    routes:
    - matchers: ['severity=\"critical\"']
      receiver: pager
      continue: true
      routes: [{match: {team: db}, mute_time_intervals: [nights]}]
    - {match_re: {team: 'a|b'}}
  receivers:
  - {name: ops, webhook_configs: [{url: 'http://a/'}]}
  - {name: pager, pagerduty_configs: [{routing_key: k}]}
  - {name: nobody}
  time_intervals: [{name: nights}]
";
        std::fs::write(&file, text).expect("write the file");
        let said = config(&file).expect("it is good");
        let expected = "routes
  -> ops  (grouped by alertname, cluster; wait 30s, interval 5m, repeat 4h)
  ├─ severity=\"critical\"  -> pager, continues
  │  └─ team=\"db\"  muted within nights
  └─ team=~\"a|b\"
receivers
  ops (fallback): ops/webhook[0]
  pager: ops/webhook[0]
    not delivered: pagerduty_configs[0], this version has no channel for pagerduty
  nobody: nobody is reached
";
        assert!(said.ends_with(expected), "{said}");
    }

    #[test]
    fn faults_of_all_files_that_a_configuration_names_are_told_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("write the file");
            path
        };
        write("rules.yaml", "groups: [{nmae: a}]\n");
        let file = write(
            "config.yaml",
            "alerting: {}\nrule_files: [rules.yaml]\nserver: {ssl: {enabled: true, cert_file: a.crt, key_file: a.key}}\n",
        );
        let told = config(&file).expect_err("two faults").to_string();
        for words in [
            "config.yaml:1: alerting has no effect",
            "config.yaml: server.ssl.cert_file: ",
            "rules.yaml:1:",
            "nmae",
        ] {
            assert!(told.contains(words), "{words:?} is missing in {told}");
        }
    }
}
