//! The port of the lease.
//!
//! The embedded database belongs to one process, guarded by the data folder's lock: whoever asks, leads. On a server the
//! lease is a row with a time limit by the server's clock; taking it over raises its epoch, and a writer that still
//! believes in an older one is refused in its own transaction. Whoever led takes nothing over until it was told that it
//! has been replaced.

use std::time::Duration;

use marketprism_model::{Claim, LeaseStore, Replica, StoreError};

use crate::database::{Database, Engine, StepError};
use crate::postgres::Postgres;
use crate::row::Columns;
use crate::session::{Session, binds};

/// The server's clock in milliseconds; not the beginning of the transaction, which may have waited.
const NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";

impl LeaseStore for Database {
    fn claim(&self, replica: &Replica, lasting: Duration) -> Result<Claim, StoreError> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(Claim::Ours { epoch: 1 }),
            Engine::Postgres(server) => claim_on(server, replica, lasting),
        }
    }

    fn release(&self, replica: &Replica) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(()),
            Engine::Postgres(server) => release_on(server, replica),
        }
    }
}

fn claim_on(server: &Postgres, replica: &Replica, lasting: Duration) -> Result<Claim, StoreError> {
    // Whoever led and has been replaced gets no new epoch, though the lease be free again: it remembers what was before
    // the other led, and would write that. It is told, and asks once more when it has forgotten.
    let has_led = server.lead.lock().is_some();
    let claim = server.write("claim the lease", |db| {
        if let Some(epoch) = renew(db, replica, lasting)? {
            return Ok(Claim::Ours { epoch });
        }
        if !has_led && let Some(epoch) = take_over(db, replica, lasting)? {
            return Ok(Claim::Ours { epoch });
        }
        holder_of(db)
    })?;
    // Set after the commit: until then nobody may write with the new epoch.
    *server.lead.lock() = match &claim {
        Claim::Ours { epoch } => Some((replica.id.clone(), epoch.cast_signed())),
        Claim::Theirs { .. } => None,
    };
    Ok(claim)
}

/// Changes no column of a key, so that it does not wait for transactions that hold the lease.
fn renew(db: &dyn Session, replica: &Replica, lasting: Duration) -> Result<Option<u64>, StepError> {
    let sql = format!(
        "UPDATE replica_lease SET address = ?2, expires_at = {NOW} + ?3 WHERE id = 1 AND holder = ?1 RETURNING epoch"
    );
    let row = db.query_one(&sql, &binds![&replica.id, &replica.address, millis(lasting)])?;
    row.map(|row| Columns::named(&row, "lease", String::new()).hash(0))
        .transpose()
}

fn take_over(db: &dyn Session, replica: &Replica, lasting: Duration) -> Result<Option<u64>, StepError> {
    let sql = format!(
        "INSERT INTO replica_lease (id, epoch, holder, address, expires_at) VALUES (1, 1, ?1, ?2, {NOW} + ?3)
         ON CONFLICT (id) DO UPDATE SET epoch = replica_lease.epoch + 1, holder = excluded.holder,
             address = excluded.address, expires_at = {NOW} + ?3
             WHERE replica_lease.expires_at <= {NOW}
         RETURNING epoch"
    );
    let row = db.query_one(&sql, &binds![&replica.id, &replica.address, millis(lasting)])?;
    row.map(|row| Columns::named(&row, "lease", String::new()).hash(0))
        .transpose()
}

fn holder_of(db: &dyn Session) -> Result<Claim, StepError> {
    let row = db.query_one("SELECT holder, address FROM replica_lease WHERE id = 1", &[])?;
    let row = row.ok_or_else(|| StepError::Database("the lease has vanished".to_owned()))?;
    let columns = Columns::named(&row, "lease", String::new());
    Ok(Claim::Theirs {
        holder: Replica {
            id: columns.text(0)?,
            address: columns.text(1)?,
        },
    })
}

fn release_on(server: &Postgres, replica: &Replica) -> Result<(), StoreError> {
    // First, so that nothing is written any more that the next holder would not see.
    *server.lead.lock() = None;
    server.write("release the lease", |db| {
        db.execute(
            "UPDATE replica_lease SET epoch = epoch + 1, holder = '', address = '', expires_at = 0
             WHERE id = 1 AND holder = ?1",
            &binds![&replica.id],
        )?;
        Ok(())
    })
}

fn millis(lasting: Duration) -> i64 {
    i64::try_from(lasting.as_millis())
        .unwrap_or(i64::MAX / 2)
        .min(i64::MAX / 2)
}
