//! The memory that an allocation really takes: more than was asked for.
//!
//! Modelled on mimalloc, the program's allocator; others with classes of sizes are alike. Only so
//! does a limit in bytes mean the bytes that the process grows by, as
//! `crates/daemon/tests/memory.rs` measures.

/// Returns the bytes that an allocation of so many bytes takes. Sizes come in classes: four to each
/// power of two, and steps of 16 below 128.
#[inline]
pub const fn allocated_bytes(bytes: usize) -> usize {
    let last = bytes.saturating_sub(1);
    let step = (last | 64).ilog2() - 2;
    ((last >> step) + 1) << step
}

/// The length of the reference counts in front of a shared value.
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
            assert_eq!(Some(&allocated_bytes(bytes)), class, "{bytes}");
        }
    }

    #[test]
    fn no_size_takes_more_than_a_quarter_more_but_for_small_ones() {
        for bytes in 1..200_000 {
            assert!(allocated_bytes(bytes) <= bytes + bytes / 4 + 16, "{bytes}");
        }
    }
}
