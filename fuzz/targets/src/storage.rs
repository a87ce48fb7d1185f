//! What lies on disk, after any damage.
//!
//! Checksums turn most damage away at the door, so the decoders behind them are targets of their own.

use marketprism_model::Labels;
use marketprism_storage::block::{meta, reader};
use marketprism_storage::codec::{column, histogram_chunk, packed};
use marketprism_storage::columns::Columns;
use marketprism_storage::wal::record::{Decoder, Forgotten, Numbered, NumberedHistogram};
use marketprism_storage::wal::segment::{self, Replay};

/// Takes two bytes from the front as a number.
fn with_number(input: &[u8]) -> (usize, &[u8]) {
    match input.split_first_chunk::<2>() {
        Some((number, rest)) => (u16::from_le_bytes(*number).into(), rest),
        None => (0, input),
    }
}

#[derive(Default)]
struct Counting {
    series: usize,
    samples: u64,
}

impl Replay for Counting {
    fn define(&mut self, _labels: Labels) {
        self.series += 1;
    }

    fn append(&mut self, samples: &[Numbered]) {
        self.samples += samples.len() as u64;
        // A store indexes by this number without looking.
        assert!(
            samples
                .iter()
                .all(|sample| (sample.number as usize) < self.series),
            "a sample without a series"
        );
    }

    fn append_histograms(&mut self, histograms: Vec<NumberedHistogram>) {
        self.samples += histograms.len() as u64;
        for sample in histograms {
            assert!(
                (sample.number as usize) < self.series,
                "a histogram without a series"
            );
            assert_eq!(sample.histogram.check(), Ok(()));
        }
    }

    fn forget(&mut self, _forgotten: Forgotten) {}
}

pub fn wal_segment(input: &[u8]) {
    let mut counting = Counting::default();
    let reading = segment::read(input, 1, &mut counting);
    assert!(reading.good_bytes <= input.len());
    assert_eq!(
        reading.samples, counting.samples,
        "samples told and samples given"
    );
}

/// The number in front tells where definitions end and samples begin.
pub fn wal_record(input: &[u8]) {
    let (at, rest) = with_number(input);
    let (definitions, samples) = rest.split_at(at.min(rest.len()));
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    let Ok(series) = decoder.series(definitions) else {
        return;
    };
    if decoder.samples(samples, &mut out).is_ok() {
        assert!(
            out.iter().all(|sample| (sample.number as usize) < series.len()),
            "a sample without a series"
        );
    }
    if let Ok(histograms) = decoder.histograms(samples) {
        assert!(histograms.iter().all(|sample| sample.histogram.check().is_ok()));
    }
}

/// The number in front is the count that the chunk is said to have.
pub fn packed_chunk(input: &[u8]) {
    let (count, rest) = with_number(input);
    let mut columns = Columns::default();
    if packed::decode_into(rest, count, &mut columns).is_ok() {
        assert_eq!(columns.len(), count);
    }
    if let Ok(histograms) = histogram_chunk::decode(rest, count) {
        assert_eq!(histograms.len(), count);
        assert!(histograms.iter().all(|histogram| histogram.check().is_ok()));
    }
}

/// The number in front is the count that the column is said to have.
pub fn column(input: &[u8]) {
    let (count, rest) = with_number(input);
    let (mut values, mut times) = (Vec::new(), Vec::new());
    if column::decode_values(rest, count, &mut values).is_ok() {
        assert_eq!(values.len(), count);
    }
    if column::decode_times(rest, count, &mut times).is_ok() {
        assert_eq!(times.len(), count);
    }
}

/// The number in front tells where the index ends and the chunks begin.
pub fn block(input: &[u8]) {
    let (at, rest) = with_number(input);
    let (index, chunks) = rest.split_at(at.min(rest.len()));
    let _ = reader::read_all(index, chunks);
}

pub fn block_meta(input: &[u8]) {
    let _ = meta::decode(input);
}
