//! Whole processes side by side: MarketPrism, Prometheus and VictoriaMetrics with vmalert, in one run on one
//! machine, with the same data and the same questions.
//!
//! Ratios count, not absolute times: a machine that is busy or old slows all sides alike. So everything is
//! processor time and memory as `/proc` tells them, everybody is asked over HTTP, and answers are compared
//! before times. Deliberately absent: measurements inside our own process, and any tuning of a peer.

pub mod alertmanager;
pub mod answer;
pub mod clock;
pub mod expressions;
pub mod fleet;
pub mod measures;
pub mod peer;
pub mod process;
pub mod remote_write;
pub mod report;
pub mod running;
pub mod scenario;
