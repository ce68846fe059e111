//! Encoded rows in pieces of one size: they are sent by the piece anyway, and a buffer that grows by
//! doubling leaves holes in the heap that cost more memory than the rows.

use std::ops;

use bytes::Bytes;

use crate::row::RowHead;

/// A piece is closed when it has this many bytes; each becomes one compressed frame.
const PIECE: usize = 256 * 1024;

#[derive(Debug, Default)]
struct Piece<B> {
    bytes: B,
    /// Where each row ends.
    ends: Vec<usize>,
}

impl<B> Piece<B> {
    fn start(&self, row: usize) -> usize {
        row.checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .copied()
            .unwrap_or(0)
    }
}

/// Rows that are still gathered.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    closed: Vec<Piece<Bytes>>,
    open: Piece<Vec<u8>>,
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.closed
            .iter()
            .map(|piece| piece.ends.len())
            .sum::<usize>()
            + self.open.ends.len()
    }

    /// Memory held.
    pub(crate) fn bytes(&self) -> usize {
        let closed: usize = self.closed.iter().map(|piece| piece.bytes.len()).sum();
        closed + self.open.bytes.len() + self.len() * size_of::<usize>()
    }

    /// Adds the row that `encode` appends.
    pub(crate) fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        encode(&mut self.open.bytes);
        self.open.ends.push(self.open.bytes.len());
        if self.open.bytes.len() >= PIECE {
            let next = Piece {
                bytes: Vec::with_capacity(PIECE + PIECE / 16),
                ends: Vec::new(),
            };
            self.closed
                .push(std::mem::replace(&mut self.open, next).close());
        }
    }

    /// The rows for sending, and sending again.
    pub(crate) fn freeze(mut self) -> Frozen {
        self.closed.push(self.open.close());
        Frozen {
            pieces: self.closed,
        }
    }
}

impl Piece<Vec<u8>> {
    fn close(self) -> Piece<Bytes> {
        Piece {
            bytes: Bytes::from(self.bytes),
            ends: self.ends,
        }
    }
}

/// Rows that no longer change: cheap to slice and to share.
#[derive(Debug)]
pub(crate) struct Frozen {
    pieces: Vec<Piece<Bytes>>,
}

impl Frozen {
    pub(crate) fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.ends.len()).sum()
    }

    /// Each row, in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().flat_map(|piece| {
            (0..piece.ends.len()).map(|row| &piece.bytes[piece.start(row)..piece.start(row + 1)])
        })
    }

    /// The head of each row, in order.
    pub(crate) fn heads(&self) -> impl Iterator<Item = RowHead> {
        self.rows().filter_map(RowHead::read)
    }

    /// The Kafka offsets of the rows of these indices, which are sorted.
    pub(crate) fn offsets(&self, rows: &[usize]) -> Vec<i64> {
        let of = |(index, head): (usize, RowHead)| {
            rows.binary_search(&index)
                .is_ok()
                .then_some(head.offset.cast_signed())
        };
        self.heads().enumerate().filter_map(of).collect()
    }

    /// The rows but those whose index is in `dropped`, which is sorted.
    pub(crate) fn without(self, dropped: &[usize]) -> Self {
        if dropped.is_empty() {
            return self;
        }
        let mut kept = Rows::default();
        for (index, row) in self.rows().enumerate() {
            if dropped.binary_search(&index).is_err() {
                kept.push(|out| out.extend_from_slice(row));
            }
        }
        kept.freeze()
    }

    /// The bytes of these rows, in order.
    pub(crate) fn slice(&self, rows: &ops::Range<usize>) -> Vec<Bytes> {
        let mut first = 0;
        let mut slices = Vec::new();
        for piece in &self.pieces {
            let last = first + piece.ends.len();
            let from = piece.start(rows.start.clamp(first, last) - first);
            let to = piece.start(rows.end.clamp(first, last) - first);
            if from < to {
                slices.push(piece.bytes.slice(from..to));
            }
            first = last;
        }
        slices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of 100 000 bytes, each full of its own number: three to a piece.
    fn rows(count: u8) -> Frozen {
        let mut rows = Rows::default();
        for number in 0..count {
            rows.push(|out| out.extend_from_slice(&[number; 100_000]));
        }
        assert_eq!(rows.len(), usize::from(count));
        assert!(rows.bytes() >= 100_000 * usize::from(count));
        rows.freeze()
    }

    fn numbers(frozen: &Frozen, section: ops::Range<usize>) -> Vec<u8> {
        let bytes: Vec<u8> = frozen.slice(&section).into_iter().flatten().collect();
        assert_eq!(bytes.len(), section.len() * 100_000);
        bytes.chunks(100_000).map(|row| row[0]).collect()
    }

    #[test]
    fn slices_reach_across_pieces() {
        let frozen = rows(8);
        assert_eq!(frozen.len(), 8);
        assert_eq!(numbers(&frozen, 0..8), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(numbers(&frozen, 2..7), [2, 3, 4, 5, 6]);
        assert_eq!(numbers(&frozen, 3..6), [3, 4, 5]);
        assert_eq!(numbers(&frozen, 7..8), [7]);
        assert_eq!(numbers(&rows(3), 0..3), [0, 1, 2]);
        assert!(rows(0).slice(&(0..0)).is_empty());
    }

    #[test]
    fn rows_are_taken_out() {
        let left = rows(8).without(&[0, 3, 7]);
        assert_eq!(left.len(), 5);
        assert_eq!(numbers(&left, 0..5), [1, 2, 4, 5, 6]);
        assert_eq!(rows(2).without(&[0, 1]).len(), 0);
    }
}
