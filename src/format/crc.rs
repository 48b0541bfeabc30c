//! CRC-32 (IEEE) of bytes, and of the concatenation of parts whose CRCs are known.
//!
//! A record carries two checksums, of its body and of all of it. Joining CRCs means that the body
//! is read once for both, and that the bytes filled in under the append lock are the only ones
//! read there.

/// The polynomial, lowest power in the highest bit.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// The polynomial 1 in that representation.
const ONE: u32 = 1 << 31;

/// Below this length the tables beat the start-up cost of carry-less multiplication.
const SHORT: usize = 40;

/// `SLICES[k][b]`: what byte `b` followed by `k` zero bytes contributes.
static SLICES: [[u32; 256]; 16] = slices();

/// `POWERS[k][d]`: x to the power of `8 * d * 256^k`, so the shift by any `u32` length is a
/// product of four of them.
static POWERS: [[u32; 256]; 4] = powers();

/// The CRC of `bytes`.
#[inline]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32_from(0, bytes)
}

/// The CRC of `A ++ bytes`, where `initial` is the CRC of `A`.
#[inline]
pub fn crc32_from(initial: u32, bytes: &[u8]) -> u32 {
    if bytes.len() < SHORT {
        return short(initial, bytes);
    }
    // crc32fast works off what is not a whole block byte by byte, which costs as much as 200
    // bytes of blocks.
    let (blocks, rest) = bytes.split_at(bytes.len() & !15);
    let mut hasher = crc32fast::Hasher::new_with_initial(initial);
    hasher.update(blocks);
    short(hasher.finalize(), rest)
}

/// The effect of `n` bytes that follow: turns the CRC of `A` into what `A` contributes to the
/// CRC of `A ++ B`, for every `B` of `n` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift(u32);

impl Shift {
    /// The shift by `bytes` bytes. Costs no multiplication below 256 bytes, one below 64 KiB, two
    /// below 16 MiB, else three.
    #[inline]
    pub fn by(bytes: u32) -> Self {
        let [d0, d1, d2, d3] = bytes.to_le_bytes().map(usize::from);
        let mut power = POWERS[0][d0];
        if bytes >> 8 != 0 {
            power = multiply(power, POWERS[1][d1]);
        }
        if bytes >> 16 != 0 {
            power = multiply(power, POWERS[2][d2]);
        }
        if bytes >> 24 != 0 {
            power = multiply(power, POWERS[3][d3]);
        }
        Self(power)
    }

    /// The CRC of `A ++ B` from the CRC of `A` and the CRC of `B`, whose length is this shift's.
    #[inline]
    pub fn join(self, a: u32, b: u32) -> u32 {
        multiply(a, self.0) ^ b
    }
}

/// The CRC by tables only: 16 bytes a step, then what is left.
#[inline]
fn short(initial: u32, bytes: &[u8]) -> u32 {
    let mut crc = !initial;
    let (blocks, rest) = bytes.as_chunks::<16>();
    for block in blocks {
        crc = step16(crc, block);
    }
    let (words, rest) = rest.as_chunks::<4>();
    for &word in words {
        crc = zero4(crc ^ u32::from_le_bytes(word));
    }
    for &byte in rest {
        crc = (crc >> 8) ^ SLICES[0][usize::from(crc as u8 ^ byte)];
    }
    !crc
}

#[inline(always)]
fn step16(crc: u32, block: &[u8; 16]) -> u32 {
    let (words, _) = block.as_chunks::<4>();
    let [w0, w1, w2, w3] = [words[0], words[1], words[2], words[3]].map(u32::from_le_bytes);
    // The three later words do not depend on the CRC, so only four look-ups are on the critical
    // path of a step.
    four::<12>(crc ^ w0) ^ (four::<8>(w1) ^ four::<4>(w2) ^ four::<0>(w3))
}

/// What the four bytes of `word`, followed by `K` zero bytes, contribute.
#[inline(always)]
fn four<const K: usize>(word: u32) -> u32 {
    let [a, b, c, d] = word.to_le_bytes().map(usize::from);
    SLICES[K + 3][a] ^ SLICES[K + 2][b] ^ SLICES[K + 1][c] ^ SLICES[K][d]
}

/// `value` times x to the power of 32.
#[inline(always)]
fn zero4(value: u32) -> u32 {
    four::<0>(value)
}

/// The product of two polynomials modulo the CRC's.
#[inline]
fn multiply(a: u32, b: u32) -> u32 {
    // The highest power sits in the lowest bit, so the product of two 32-bit values has its
    // excess powers in the low half.
    let product = carryless(a, b) << 1;
    (product >> 32) as u32 ^ zero4(product as u32)
}

/// The product of two polynomials over GF(2), without a carry-less multiplication instruction.
///
/// Ordinary multiplication of operands in which only every fourth bit can be set: up to eight
/// ones meet in a column, their carries stay inside the three bits between and are masked away.
#[inline(always)]
fn carryless(a: u32, b: u32) -> u64 {
    const LANE: u64 = 0x1111_1111_1111_1111;
    let lanes = |v: u32| [0, 1, 2, 3].map(|i| u64::from(v) & (LANE << i));
    let [a0, a1, a2, a3] = lanes(a);
    let [b0, b1, b2, b3] = lanes(b);
    let mul = |x: u64, y: u64| x.wrapping_mul(y);
    let z0 = mul(a0, b0) ^ mul(a1, b3) ^ mul(a2, b2) ^ mul(a3, b1);
    let z1 = mul(a0, b1) ^ mul(a1, b0) ^ mul(a2, b3) ^ mul(a3, b2);
    let z2 = mul(a0, b2) ^ mul(a1, b1) ^ mul(a2, b0) ^ mul(a3, b3);
    let z3 = mul(a0, b3) ^ mul(a1, b2) ^ mul(a2, b1) ^ mul(a3, b0);
    (z0 & LANE) | (z1 & (LANE << 1)) | (z2 & (LANE << 2)) | (z3 & (LANE << 3))
}

const fn slices() -> [[u32; 256]; 16] {
    let mut table = [[0; 256]; 16];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = times_x(value);
            bit += 1;
        }
        table[0][byte] = value;
        byte += 1;
    }
    let mut k = 1;
    while k < 16 {
        let mut byte = 0;
        while byte < 256 {
            let before = table[k - 1][byte];
            table[k][byte] = (before >> 8) ^ table[0][(before & 0xFF) as usize];
            byte += 1;
        }
        k += 1;
    }
    table
}

const fn powers() -> [[u32; 256]; 4] {
    let mut table = [[ONE; 256]; 4];
    let mut unit = ONE >> 8;
    let mut k = 0;
    while k < 4 {
        let mut digit = 1;
        while digit < 256 {
            table[k][digit] = multiply_bitwise(table[k][digit - 1], unit);
            digit += 1;
        }
        unit = multiply_bitwise(table[k][255], unit);
        k += 1;
    }
    table
}

const fn times_x(value: u32) -> u32 {
    (value >> 1) ^ (POLYNOMIAL & (value & 1).wrapping_neg())
}

/// [`multiply`] one bit at a time, for the tables and as its test's reference.
const fn multiply_bitwise(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        product ^= b & ((a >> bit) & 1).wrapping_neg();
        b = times_x(b);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::testing::Random;

    #[test]
    fn known_values() {
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(&[0; 32]), 0x190A_55AD);
    }

    #[test]
    fn agrees_with_crc32fast_at_every_length_and_split() {
        let mut random = Random::seeded();
        let bytes = random.bytes(700);
        for len in 0..bytes.len() {
            let whole = &bytes[..len];
            let expected = crc32fast::hash(whole);
            assert_eq!(crc32(whole), expected, "len={len}");
            let (a, b) = whole.split_at(random.below(len as u64 + 1) as usize);
            assert_eq!(crc32_from(crc32(a), b), expected, "len={len} split={}", a.len());
            let joined = Shift::by(b.len() as u32).join(crc32(a), crc32(b));
            assert_eq!(joined, expected, "len={len} split={}", a.len());
        }
    }

    #[test]
    fn multiplication_agrees_with_the_bitwise_one() {
        let mut random = Random::seeded();
        for _ in 0..10_000 {
            let (a, b) = (random.next() as u32, random.next() as u32);
            assert_eq!(multiply(a, b), multiply_bitwise(a, b), "{a:08x} {b:08x}");
        }
    }

    #[test]
    fn shifts_of_any_length_add_up() {
        let mut random = Random::seeded();
        for _ in 0..1000 {
            let m = random.next() as u32 >> (1 + random.below(31));
            let n = random.next() as u32 >> (1 + random.below(31));
            assert_eq!(multiply(Shift::by(m).0, Shift::by(n).0), Shift::by(m + n).0, "{m} {n}");
        }
        assert_eq!(Shift::by(0).0, ONE);
        let zeros = vec![0; (1 << 24) + 5];
        let a = crc32(b"steadfast");
        let joined = Shift::by(zeros.len() as u32).join(a, crc32(&zeros));
        assert_eq!(joined, crc32fast::hash(&[b"steadfast", &zeros[..]].concat()));
    }
}
