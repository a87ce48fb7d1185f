//! Decides the life of alerts and who hears of them.
