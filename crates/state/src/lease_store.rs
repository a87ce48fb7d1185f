//! The port of the lease.
//!
//! The embedded database belongs to one process, guarded by the data folder's lock: whoever asks, leads.

use std::time::Duration;

use marketprism_model::{Claim, LeaseStore, Replica, StoreError};

use crate::database::Database;

impl LeaseStore for Database {
    fn claim(&self, _replica: &Replica, _lasting: Duration) -> Result<Claim, StoreError> {
        Ok(Claim::Ours { epoch: 1 })
    }

    fn release(&self, _replica: &Replica) -> Result<(), StoreError> {
        Ok(())
    }
}
