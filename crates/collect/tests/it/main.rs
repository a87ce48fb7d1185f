//! The room from outside: scraping on a clock with hands, and next to real peers.

mod fake_transport;
mod families;
mod host;
mod message;
mod native_scrape;
mod native_scrape_peers;
mod peers;
mod prometheus_scrape;
mod remote_write;
mod remote_write_histograms;
mod remote_write_second;
mod scraper;
