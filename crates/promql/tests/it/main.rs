//! PromQL as a whole: scripts of queries with their answers, a live Prometheus beside us, properties.

mod differential;
mod hostile;
mod memory;
mod properties;
mod script;
mod scripts;
mod sessions;
