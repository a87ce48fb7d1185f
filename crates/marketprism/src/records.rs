//! Where the records are: in the data folder, or in a database that several replicas share.
//!
//! `DATABASE_URL` decides. Everything after the start sees the ports alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use marketprism_model::{
    AccessStore, AlertStore, Chance, Clock, LeaseStore, Outbox, Replica, RuleStore, Secret,
};
use marketprism_state::{Database, OpenError, SpooledRecords};

use crate::config::{Loaded, Variable};

/// Names the database that replicas share.
pub const DATABASE_URL: &str = "DATABASE_URL";

/// Gives the database that replicas share, if the environment or `.env` names one.
pub fn shared_database(loaded: &Loaded, environment: Variable) -> Option<Secret> {
    let url = loaded.variables(environment)(DATABASE_URL);
    url.filter(|url| !url.is_empty()).map(Secret::new)
}

/// Refuses a shared database without a shared key: each replica would make its own, and a session that one began would
/// be nothing to the next.
pub fn require_shared_key(loaded: &Loaded, environment: Variable) -> Result<(), String> {
    let asks_who = loaded.config.security.api_auth.enabled;
    if asks_who && loaded.jwt_secret.is_none() && shared_database(loaded, environment).is_some() {
        return Err(format!(
            "security.api_auth.jwt_secret is missing: replicas that share {DATABASE_URL} must sign sessions with the same \
             key; give each the same JWT_SECRET, of 32 characters or more (openssl rand -hex 32)"
        ));
    }
    Ok(())
}

/// The records, port by port. Clones share them.
#[derive(Clone)]
pub struct Records {
    database: Arc<Database>,
    is_shared: bool,
    /// The journal for the time in which a shared database is away, with the database behind it.
    spooled: Option<Arc<SpooledRecords>>,
}

impl Records {
    /// Gives the file that holds the records of a data folder.
    pub fn file(data_dir: &Path) -> PathBuf {
        data_dir.join("records.db")
    }

    /// Opens them for a service that owns the data folder, and says what was found damaged.
    ///
    /// A shared database is asked once; [`Records::may_come`] says whether asking again makes sense.
    pub fn open(url: Option<&Secret>, data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        if let Some(url) = url {
            let mut records = Records::shared(Database::connect(url.expose())?);
            let file = data_dir.join("outbox.spool");
            match SpooledRecords::open(Arc::clone(&records.database), &file, clock) {
                Ok(spooled) => records.spooled = Some(Arc::new(spooled)),
                Err(error) => tracing::error!(
                    error = %error,
                    "the spool cannot be opened; messages wait when the database is away"
                ),
            }
            return Ok(records);
        }
        let database = Database::open(&Records::file(data_dir))?;
        report(&database);
        Ok(Records {
            database: Arc::new(database),
            is_shared: false,
            spooled: None,
        })
    }

    /// Opens them beside a service that may run, for a command.
    pub fn open_beside(url: Option<&Secret>, data_dir: &Path) -> anyhow::Result<Self> {
        if let Some(url) = url {
            let database = Database::connect_beside(url.expose()).context(DATABASE_URL)?;
            return Ok(Records::shared(database));
        }
        let database = Database::open_beside(&Records::file(data_dir)).with_context(|| {
            format!(
                "open the records in {}; has the service run there once?",
                data_dir.display()
            )
        })?;
        Ok(Records {
            database: Arc::new(database),
            is_shared: false,
            spooled: None,
        })
    }

    fn shared(database: Database) -> Self {
        Records {
            database: Arc::new(database),
            is_shared: true,
            spooled: None,
        }
    }

    /// Says whether a shared database may only not be there yet: when everything starts together, it often is the last.
    pub fn may_come(error: &OpenError) -> bool {
        matches!(error, OpenError::Database { .. })
    }

    /// Says whether other replicas may use them.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Gives the alerts.
    pub fn alerts(&self) -> Arc<dyn AlertStore> {
        match &self.spooled {
            Some(spooled) => Arc::clone(spooled) as _,
            None => Arc::clone(&self.database) as _,
        }
    }

    /// Calls `ring` when messages wait in the journal, for the database is away.
    pub fn when_spooled(&self, ring: impl Fn() + Send + Sync + 'static) {
        if let Some(spooled) = &self.spooled {
            spooled.when_spooled(ring);
        }
    }

    /// Gives the notifications.
    pub fn outbox(&self) -> Arc<dyn Outbox> {
        match &self.spooled {
            Some(spooled) => Arc::clone(spooled) as _,
            None => Arc::clone(&self.database) as _,
        }
    }

    /// Gives the rules that are made by API.
    pub fn rules(&self) -> Arc<dyn RuleStore> {
        Arc::clone(&self.database) as _
    }

    /// Gives users, tokens and the audit log.
    pub fn access(&self) -> Arc<dyn AccessStore> {
        Arc::clone(&self.database) as _
    }

    /// Gives the lease.
    pub fn lease(&self) -> Arc<dyn LeaseStore> {
        match &self.spooled {
            Some(spooled) => Arc::clone(spooled) as _,
            None => Arc::clone(&self.database) as _,
        }
    }

    /// Keeps a copy of this moment beside the records of the data folder; a shared database keeps its own.
    pub fn snapshot(&self) -> anyhow::Result<()> {
        if !self.is_shared {
            self.database.snapshot()?;
        }
        Ok(())
    }

    /// Says who this process is among its replicas. `advertised` is where the others reach it; without it, this
    /// machine's name and the port.
    pub fn replica(&self, advertised: Option<&str>, address: SocketAddr, chance: &dyn Chance) -> Replica {
        let own = || {
            if address.ip().is_unspecified() {
                format!("{}:{}", crate::app::host_name(), address.port())
            } else {
                address.to_string()
            }
        };
        Replica {
            id: format!("{:016x}", chance.next_u64()),
            address: advertised.map_or_else(own, str::to_owned),
        }
    }
}

fn report(database: &Database) {
    let report = database.report();
    let Some(remark) = &report.remark else { return };
    if report.is_from_snapshot {
        tracing::error!(
            error = remark,
            set_aside = report.set_aside.as_ref().map(|path| path.display().to_string()),
            records_until = report.records_until.map(|at| at.to_string()),
            "the records were damaged and were taken from the snapshot; what came later is lost"
        );
    } else {
        tracing::warn!(remark, "records");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    /// Two replicas without `JWT_SECRET` made a key each, and whoever logged in at one was a stranger at the other.
    #[test]
    fn a_shared_database_demands_a_shared_key_where_sessions_are_signed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config.yaml");
        let judge = |text: &str, variables: &'static [(&str, &str)]| {
            std::fs::write(&file, text).expect("write the configuration");
            let variable = move |name: &str| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let loaded = load(Some(&file), folder.path(), &variable).expect("it is good");
            require_shared_key(&loaded, Arc::new(variable))
        };
        const URL: (&str, &str) = (DATABASE_URL, "postgres://127.0.0.1/x");
        const KEY: (&str, &str) = ("JWT_SECRET", "4f1c0e2b9a7d6538e1f0a9b8c7d6e5f4");
        let said = judge("{}", &[URL]).expect_err("each would make its own");
        assert!(
            said.contains("jwt_secret") && said.contains("JWT_SECRET"),
            "{said}"
        );
        assert_eq!(judge("{}", &[URL, KEY]), Ok(()));
        assert_eq!(
            judge("{}", &[(DATABASE_URL, "")]),
            Ok(()),
            "one replica keeps its own"
        );
        assert_eq!(judge("security: {api_auth: {enabled: false}}", &[URL]), Ok(()));
    }
}
