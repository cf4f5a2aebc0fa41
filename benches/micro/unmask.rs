//! Unmasking of payloads in place.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use proto::mask;

use benches::chat::MASKING_KEY;

#[divan::bench(args = [16, 64, 256, 1024, 4 * 1024, 16 * 1024, 64 * 1024])]
fn unmask(bencher: Bencher<'_, '_>, len: usize) {
    let mut payload = vec![b'x'; len];
    mask::apply(MASKING_KEY, &mut payload);
    let keys = MASKING_KEY.iter().cycle();
    assert!(
        payload
            .iter()
            .zip(keys)
            .all(|(byte, key)| *byte == b'x' ^ key)
    );

    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| mask::apply(black_box(MASKING_KEY), black_box(&mut payload)));
}
