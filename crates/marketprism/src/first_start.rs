//! Secrets that the first start makes: the key that signs sessions, and the administrator's password.
//!
//! Both are kept in the data folder, readable by its owner alone, so that a restart and a backup find them. What the
//! configuration or the environment gives beats them.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context, bail};
use marketprism_model::{Entropy, Secret};

use crate::backup::archive::private_file;
use crate::config::Loaded;

/// The key that signs sessions.
pub const JWT_SECRET: &str = "jwt_secret";
/// The administrator's first password.
pub const ADMIN_PASSWORD: &str = "admin_password";
/// Bytes of chance in a new key.
const KEY_BYTES: usize = 32;
/// A secret's file may have this many bytes.
const FILE_BYTES_MAX: u64 = 4096;

/// Gives the key that signs sessions: the configuration's, or the one of the data folder.
pub fn signing_key(loaded: &Loaded, data_dir: &Path, entropy: &dyn Entropy) -> anyhow::Result<Secret> {
    match &loaded.jwt_secret {
        Some(secret) => Ok(secret.clone()),
        None => jwt_secret(data_dir, entropy),
    }
}

/// Reads the key of the data folder, or makes one.
pub fn jwt_secret(data_dir: &Path, entropy: &dyn Entropy) -> anyhow::Result<Secret> {
    let path = data_dir.join(JWT_SECRET);
    if let Some(text) = read(&path)? {
        if text.len() < KEY_BYTES {
            bail!(
                "{} is shorter than {KEY_BYTES} characters; delete it and a new one is made, which ends all sessions",
                path.display()
            );
        }
        return Ok(Secret::new(text));
    }
    let mut bytes = [0; KEY_BYTES];
    entropy.fill(&mut bytes);
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    write(&path, &text)?;
    Ok(Secret::new(text))
}

/// Keeps the administrator's first password and shows it: once, and to a terminal alone, for logs are kept by others.
#[allow(clippy::print_stderr)] // The one message that must not become a log line.
pub fn show_admin_password(data_dir: &Path, password: &Secret) -> anyhow::Result<()> {
    let path = data_dir.join(ADMIN_PASSWORD);
    let _ = std::fs::remove_file(&path);
    write(&path, password.expose())?;
    if std::io::stderr().is_terminal() {
        eprintln!(
            "\n  用户 / user:      admin\n  密码 / password:  {}\n  保存于 / kept in: {}\n",
            password.expose(),
            path.display()
        );
    }
    tracing::warn!(
        file = %path.display(),
        "the user admin was made; its password is in the file; log in, change it, delete the file"
    );
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("read {}", path.display()))?;
    Ok(Some(text.trim_end().to_owned()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let writing = || -> std::io::Result<()> {
        let mut file = private_file(path)?;
        writeln!(file, "{text}")?;
        file.sync_all()
    };
    writing().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemEntropy;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_is_made_once_for_the_owner_alone_and_found_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let made = jwt_secret(folder.path(), &SystemEntropy).expect("a key is made");
        let found = jwt_secret(folder.path(), &SystemEntropy).expect("it is found");
        assert_eq!(made.expose(), found.expose());
        assert_eq!(made.expose().len(), 64);
        let mode = std::fs::metadata(folder.path().join(JWT_SECRET))
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().expect("a temporary folder");
        let another = jwt_secret(other.path(), &SystemEntropy).expect("a key is made");
        assert_ne!(made.expose(), another.expose());
    }

    #[test]
    fn a_key_that_was_cut_off_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join(JWT_SECRET), "short\n").expect("write");
        let said = jwt_secret(folder.path(), &SystemEntropy)
            .expect_err("too short")
            .to_string();
        assert!(
            said.contains("jwt_secret") && said.contains("delete it"),
            "{said}"
        );
    }
}
