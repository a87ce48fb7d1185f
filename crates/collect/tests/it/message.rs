//! Messages of protobuf, written by hand.

/// A message, written field by field after the published encoding.
#[derive(Clone, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn varint(bytes: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }

    pub fn number(mut self, field: u64, value: i64) -> Self {
        Self::varint(&mut self.0, field << 3);
        Self::varint(&mut self.0, value as u64);
        self
    }

    pub fn double(mut self, field: u64, value: f64) -> Self {
        Self::varint(&mut self.0, field << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn bytes(mut self, field: u64, content: &[u8]) -> Self {
        Self::varint(&mut self.0, field << 3 | 2);
        Self::varint(&mut self.0, content.len() as u64);
        self.0.extend(content);
        self
    }

    /// A signed number of the zigzag kind.
    pub fn zigzag(self, field: u64, value: i64) -> Self {
        self.number(field, value << 1 ^ value >> 63)
    }

    /// Repeated signed numbers, packed.
    pub fn zigzags(self, field: u64, values: &[i64]) -> Self {
        let mut packed = Vec::new();
        for value in values {
            Self::varint(&mut packed, (value << 1 ^ value >> 63) as u64);
        }
        self.bytes(field, &packed)
    }

    /// Repeated doubles, packed.
    pub fn doubles(self, field: u64, values: &[f64]) -> Self {
        let packed: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(field, &packed)
    }

    /// Repeated spans of buckets: offset and length.
    pub fn spans(self, field: u64, spans: &[(i64, i64)]) -> Self {
        spans.iter().fold(self, |message, (offset, length)| {
            message.bytes(field, &Message::default().zigzag(1, *offset).number(2, *length).0)
        })
    }
}
