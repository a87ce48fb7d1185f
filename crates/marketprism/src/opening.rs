//! Opening what a start needs before any room stands: the data folder, the port, records, samples, users.
//!
//! Each step says what it could not open and what to do. Deliberately absent: the order of the steps, and their undoing;
//! that is `app`.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use marketprism_access::Access;
use marketprism_model::Secret;
use marketprism_server::Readiness;
use marketprism_storage::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Loaded;
use crate::environment::{Environment, Options};
use crate::first_start;
use crate::metrics::SharedRegistry;
use crate::records::{Records, shared_database};

/// How often a shared database is asked that does not answer at the start.
const DATABASE_PACE: Duration = Duration::from_secs(3);

/// Refuses a folder that a restore has half filled.
pub fn refuse_unfinished_restore(folder: &Path) -> anyhow::Result<()> {
    let work = folder.join(crate::backup::restore::WORK);
    if work.exists() {
        bail!(
            "{} is there: a restore did not finish; repeat it with --replace",
            work.display()
        );
    }
    Ok(())
}

/// Takes the data folder for this process alone; the lock ends with the process.
pub fn lock_data(folder: &Path) -> anyhow::Result<std::fs::File> {
    // A folder that is made here is its owner's alone; one that was given keeps the rights it was given with.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    let path = folder.join("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "{} is in use by another process; stop it, or give --data-dir another folder",
            folder.display()
        );
    }
    Ok(file)
}

/// Takes the port.
pub async fn bind(loaded: &Loaded, options: &Options) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listen = options.listen.as_deref().unwrap_or(&loaded.config.server.listen);
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}; choose another address with --listen"))?;
    let address = listener.local_addr().context("the listener has no address")?;
    Ok((listener, address))
}

/// Opens the records; waits for a shared database that is not there yet, until the start is called off.
pub async fn records(
    loaded: &Loaded,
    options: &Options,
    environment: &Environment,
    readiness: &Readiness,
    cancel: &CancellationToken,
) -> anyhow::Result<Records> {
    let url = shared_database(loaded, Arc::clone(&environment.variable));
    let mut is_waiting = false;
    loop {
        let (asked, data_dir) = (url.clone(), options.data_dir.clone());
        let clock = Arc::clone(&environment.clock);
        let opening = tokio::task::spawn_blocking(move || Records::open(asked.as_ref(), &data_dir, clock));
        match opening.await.context("opening the records")? {
            Err(error) if url.is_some() && Records::may_come(&error) => {
                if !is_waiting {
                    tracing::warn!(error = %error, "the database does not answer; trying again every few seconds");
                    readiness.starting("waiting for the database");
                }
                is_waiting = true;
            }
            outcome => return Ok(outcome?),
        }
        tokio::select! {
            () = cancel.cancelled() => bail!("the start was called off"),
            () = environment.clock.sleep(DATABASE_PACE) => {}
        }
    }
}

/// Opens the samples off the async threads; the log may take a while to replay.
pub async fn store(
    loaded: &Loaded,
    environment: &Environment,
    readiness: &Readiness,
) -> anyhow::Result<Store> {
    let storage = loaded.storage.clone();
    let (clock, readiness) = (Arc::clone(&environment.clock), readiness.clone());
    let opened = tokio::task::spawn_blocking(move || {
        Store::open(storage, clock, &|progress| {
            let percent = 100 * progress.segments / progress.segments_total.max(1);
            readiness.starting(format!("replaying the log, {percent} %"));
        })
    });
    let store = opened.await.context("opening the samples")??;
    report_replay(&store);
    Ok(store)
}

/// Opens the room that decides who gets in; the first start makes its administrator.
pub async fn access(
    loaded: &Loaded,
    secret: Secret,
    options: &Options,
    environment: &Environment,
    records: &Records,
    registry: &SharedRegistry,
) -> anyhow::Result<Arc<Access>> {
    let config = loaded.config.security.access();
    let parts = marketprism_access::Parts {
        store: records.access(),
        clock: Arc::clone(&environment.clock),
        chance: Arc::clone(&environment.chance),
        entropy: Arc::clone(&environment.entropy),
    };
    let (data_dir, registry) = (options.data_dir.clone(), Arc::clone(registry));
    let opened = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let access = {
            let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
            Access::open(
                &config,
                secret,
                parts,
                registry.sub_registry_with_prefix("marketprism"),
            )
        };
        if config.api_auth.enabled
            && let Some(password) = access.ensure_admin()?
        {
            first_start::show_admin_password(&data_dir, &password)?;
        }
        Ok(Arc::new(access))
    });
    opened.await.context("opening users and tokens")?
}

fn report_replay(store: &Store) {
    let stats = store.stats();
    for lost in &stats.replay.lost {
        tracing::error!(
            segment = lost.segment,
            offset = lost.offset,
            bytes = lost.bytes,
            error = lost.reason,
            "a part of the log is damaged; its samples are lost, the file is kept as *.quarantined"
        );
    }
    for block in &stats.damaged_blocks {
        tracing::error!(
            block = block.name,
            error = block.reason,
            "a block is damaged and left out"
        );
    }
    tracing::info!(
        series = stats.series,
        samples = stats.replay.samples,
        "log replayed"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_that_is_made_is_its_owners_alone_and_one_that_is_there_stays_as_it_is() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let rights = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        let made = folder.path().join("data");
        drop(lock_data(&made).expect("it is made"));
        assert_eq!(rights(&made), 0o700);
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o750)).expect("set rights");
        drop(lock_data(&made).expect("it is taken"));
        assert_eq!(rights(&made), 0o750);
    }
}
