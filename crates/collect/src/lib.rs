//! Turns the world into samples: scrapes, pushes, the host itself.
