//! What memory really takes: more than was asked for.
//!
//! Modelled on mimalloc, which is the program's allocator; others that keep classes of sizes do alike. Only by this
//! does a limit in bytes mean what the process grows by, which `crates/throng/tests/memory.rs` measures.

/// Returns what an allocation of so many bytes takes, in bytes: sizes come in classes, four to each power of two, and
/// of the pages that blocks lie in a part stays unused.
#[inline]
pub const fn allocated_bytes(bytes: usize) -> usize {
    let block = block_bytes(bytes);
    block + block / 16
}

/// The class of a size.
#[inline]
const fn block_bytes(bytes: usize) -> usize {
    let words = bytes.div_ceil(8);
    if words <= 8 {
        return words.next_multiple_of(2) * 8;
    }
    let last = words - 1;
    let step = last.ilog2() - 2;
    ((last >> step) + 1) << step << 3
}

/// The reference counts in front of what is shared.
pub(crate) const COUNTS_LEN: usize = 2 * size_of::<usize>();

#[cfg(test)]
mod tests {
    use super::*;

    /// As mimalloc's `mi_good_size` says.
    #[test]
    fn a_size_is_rounded_up_to_its_class() {
        let classes = [
            16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768,
            896, 1024, 1280, 1536, 1792, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192,
            10_240,
        ];
        for bytes in 1..=10_240 {
            let class = classes.iter().find(|class| **class >= bytes);
            assert_eq!(Some(&block_bytes(bytes)), class, "{bytes}");
        }
    }

    #[test]
    fn no_size_takes_more_than_three_eighths_more_but_for_small_ones() {
        for bytes in 1..200_000 {
            assert!(
                allocated_bytes(bytes) <= bytes + bytes / 4 + bytes / 8 + 24,
                "{bytes}"
            );
        }
    }
}
