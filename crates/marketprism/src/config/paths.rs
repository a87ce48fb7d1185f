//! Relative paths start from the folder of the configuration file, as Prometheus has it.
//!
//! One place for all sections whose rooms open the files themselves: jobs with their credentials, certificates and
//! target files, and channels with their certificates. Rule files, secrets beside the file and `server.ssl` are resolved
//! where they are read. The log file starts from the working folder, where the program runs.

use std::path::Path;

use super::tree::{Node, Value};

/// Sections whose files are resolved here.
const SECTIONS: [&str; 2] = ["scrape_configs", "notification_manager"];

/// Makes every relative path of a file absolute.
pub fn resolve(root: &mut Node, folder: &Path) {
    let Value::Map(sections) = &mut root.value else {
        return;
    };
    for section in sections {
        if SECTIONS.contains(&section.key.as_str()) {
            enter(&mut section.value, folder);
        }
    }
}

fn enter(node: &mut Node, folder: &Path) {
    match &mut node.value {
        Value::Scalar(_) => {}
        Value::List(items) => items.iter_mut().flatten().for_each(|item| enter(item, folder)),
        Value::Map(pairs) => {
            for pair in pairs {
                match pair.key.as_str() {
                    "file_sd_configs" => target_files(&mut pair.value, folder),
                    key if key.ends_with("_file") => make_absolute(&mut pair.value, folder),
                    _ => enter(&mut pair.value, folder),
                }
            }
        }
    }
}

/// Resolves `files` of each entry of `file_sd_configs`.
fn target_files(node: &mut Node, folder: &Path) {
    let Value::List(entries) = &mut node.value else {
        return;
    };
    for entry in entries.iter_mut().flatten() {
        let Value::Map(pairs) = &mut entry.value else {
            continue;
        };
        for pair in pairs.iter_mut().filter(|pair| pair.key == "files") {
            if let Value::List(files) = &mut pair.value.value {
                files
                    .iter_mut()
                    .flatten()
                    .for_each(|file| make_absolute(file, folder));
            }
        }
    }
}

fn make_absolute(node: &mut Node, folder: &Path) {
    if let Value::Scalar(scalar) = &mut node.value
        && !scalar.text.is_empty()
        && !(scalar.is_plain && matches!(scalar.text.as_str(), "~" | "null"))
    {
        scalar.text = folder.join(&scalar.text).display().to_string();
        scalar.is_plain = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree;

    #[test]
    fn files_of_jobs_and_channels_start_from_the_configurations_folder() {
        let text = "scrape_configs:\n- {job_name: a_file, basic_auth: {password_file: pw}, tls_config: {ca_file: /ca.pem, key_file: ~}}\n\
                    - file_sd_configs: [{files: [targets/*.json, /abs.json]}]\n\
                    notification_manager: {channels: {hook: {type: webhook, ca_file: ca.pem, url: 'http://a/b_file'}}}\n\
                    logging: {file: {path: logs/a.log}}\n";
        let mut root = tree::read(text).root;
        resolve(&mut root, Path::new("/etc/mp"));
        let value = |path: &str| {
            let steps = root.resolve(path);
            root.follow(&steps).0.as_text().map(str::to_owned)
        };
        let check = |path: &str, expected: &str| assert_eq!(value(path).as_deref(), Some(expected), "{path}");
        check("scrape_configs[0].job_name", "a_file");
        check("scrape_configs[0].basic_auth.password_file", "/etc/mp/pw");
        check("scrape_configs[0].tls_config.ca_file", "/ca.pem");
        check(
            "scrape_configs[1].file_sd_configs[0].files[0]",
            "/etc/mp/targets/*.json",
        );
        check("scrape_configs[1].file_sd_configs[0].files[1]", "/abs.json");
        check("notification_manager.channels.hook.ca_file", "/etc/mp/ca.pem");
        check("notification_manager.channels.hook.url", "http://a/b_file");
        check("logging.file.path", "logs/a.log");
    }
}
