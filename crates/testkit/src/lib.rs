//! Fakes for the ports, for tests only: a clock with hands, chance with a seed, peers that judge what they
//! are sent, and real peers kept on a leash.

pub mod certificates;
pub mod clock;
pub mod fake_dingtalk;
pub mod fake_slack;
pub mod fake_webhook;
pub mod fake_world;
pub mod http_server;
pub mod machine_clock;
pub mod memory_access;
pub mod memory_outbox;
pub mod memory_sink;
pub mod postgres_server;
pub mod process;
pub mod scripted;
pub mod smtp_server;

pub use certificates::{TestAuthority, TestCertificate};
pub use clock::{ManualClock, SeededChance};
pub use fake_dingtalk::FakeDingTalk;
pub use fake_slack::FakeSlack;
pub use fake_webhook::FakeWebhook;
pub use fake_world::{Arrival, FakeWorld, Weather};
pub use http_server::HttpServer;
pub use machine_clock::MachineClock;
pub use memory_access::{MemoryAccess, SeededEntropy};
pub use memory_outbox::MemoryOutbox;
pub use memory_sink::MemorySink;
pub use postgres_server::PostgresServer;
pub use process::{ChildGuard, free_port, is_true_within, wait_for, wait_for_async};
pub use scripted::{Behaviour, ReceivedRequest};
pub use smtp_server::{ReceivedMail, SmtpOptions, SmtpSecurity, SmtpServer};
