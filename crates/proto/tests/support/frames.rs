//! Puts the parts of frames together again, to compare streams that are cut at other places.

use throng_proto::{DecodeError, FrameDecoder, FrameHeader, FramePart, Role};

/// The frames of a stream, the last perhaps without its end.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Frames {
    frames: Vec<Frame>,
    error: Option<DecodeError>,
}

#[derive(Debug, PartialEq)]
struct Frame {
    header: FrameHeader,
    payload: Vec<u8>,
    ended: bool,
}

impl Frames {
    /// Decodes `stream` in pieces of these lengths, over and over until its end.
    ///
    /// # Panics
    ///
    /// If the parts do not fit together.
    pub(crate) fn read(role: Role, stream: &[u8], piece_lens: &[usize]) -> Self {
        let mut decoder = FrameDecoder::new(role);
        let mut frames = Self::default();
        let mut rest = stream.to_vec();
        let mut piece_lens = piece_lens.iter().cycle();
        while let (false, Some(&len)) = (rest.is_empty(), piece_lens.next()) {
            let after = rest.split_off(len.max(1).min(rest.len()));
            let mut piece = std::mem::replace(&mut rest, after);
            frames.error = frames.decode(&mut decoder, &mut piece).err();
            if frames.error.is_some() {
                break;
            }
        }
        frames
    }

    fn decode(&mut self, decoder: &mut FrameDecoder, piece: &mut [u8]) -> Result<(), DecodeError> {
        let mut input = piece;
        while !input.is_empty() {
            let (part, consumed) = decoder.decode(input)?;
            assert!(consumed > 0, "the decoder stands still");
            match part {
                Some(part) => self.add(&part),
                None => assert_eq!(consumed, input.len(), "no part, and input left"),
            }
            input = &mut input[consumed..];
        }
        Ok(())
    }

    fn add(&mut self, part: &FramePart<'_>) {
        let header = part.header;
        if part.first {
            let last = self.frames.last();
            assert!(
                last.is_none_or(|frame| frame.ended),
                "a frame inside another"
            );
            self.frames.push(Frame {
                header,
                payload: Vec::new(),
                ended: false,
            });
        }
        let frame = self.frames.last_mut().expect("a frame has begun");
        assert!(!frame.ended, "a part after the last one");
        assert_eq!(frame.header, header, "a frame has one header");
        frame.payload.extend_from_slice(part.payload);
        frame.ended = part.last;
        assert_eq!(
            frame.ended,
            frame.payload.len() as u64 == header.payload_len
        );
    }
}
