//! Judging files without running them, and printing the rules inside.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::bail;
use marketprism_rules::{GroupDefaults, Loaded as LoadedRules};

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
    let judged = match judge(&rules) {
        Ok(judged) => judged,
        // What is remarked about the configuration helps with its rule files, too.
        Err(faults) => bail!("{text}{faults}"),
    };
    let (jobs, channels) = (loaded.pools.len(), loaded.channels.channels.len());
    let _ = writeln!(
        text,
        "{}: good; {jobs} scrape jobs, {channels} channels in use; {judged}",
        file.display()
    );
    Ok(text)
}

/// Judges rule files.
pub fn rules(files: &[PathBuf]) -> anyhow::Result<String> {
    let folder = std::env::current_dir()?;
    let patterns: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let rules = marketprism_rules::load(&patterns, &folder, &[], &GroupDefaults::default());
    Ok(format!("{}\n", judge(&rules)?))
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
