// Runs of elements of string instructions in host memory. Element i of a run is i elements above its first, or below it if the run goes
// down. Sizes are log2 of bytes. What is done comes to the same as element by element.

/** Bytes up to which a loop is faster than the host's own copy. */
const SHORT: usize = 64;

/** Element `i` of a run. */
export function element(at: usize, i: usize, size: i32, down: bool): u64 {
  const place = down ? at - (i << size) : at + (i << size);
  return size == 0 ? <u64>load<u8>(place) : size == 1 ? <u64>load<u16>(place) : size == 2 ? <u64>load<u32>(place) : load<u64>(place);
}
function setElement(place: usize, size: i32, value: u64): void {
  switch (size) {
    case 0: store<u8>(place, <u8>value); break;
    case 1: store<u16>(place, <u16>value); break;
    case 2: store<u32>(place, <u32>value); break;
    default: store<u64>(place, value); break;
  }
}

/** The value in every element of 16 bytes. */
function splat(value: u64, size: i32): v128 {
  switch (size) {
    case 0: return i8x16.splat(<i8>value);
    case 1: return i16x8.splat(<i16>value);
    case 2: return i32x4.splat(<i32>value);
    default: return i64x2.splat(<i64>value);
  }
}
/** One bit for each byte of 16: whether the elements that it is part of are equal. */
function equalBytes(a: v128, b: v128, size: i32): i32 {
  switch (size) {
    case 0: return i8x16.bitmask(i8x16.eq(a, b));
    case 1: return i8x16.bitmask(i16x8.eq(a, b));
    case 2: return i8x16.bitmask(i32x4.eq(a, b));
    default: return i8x16.bitmask(i64x2.eq(a, b));
  }
}

/** Copies `n` elements. */
export function copyElements(to: usize, from: usize, size: i32, n: usize, down: bool): void {
  const length = n << size;
  if (down) {
    // As a copy of the whole run if no element comes from one that was written before.
    const behind: usize = 1 << size;
    if (to >= from || to + length <= from) memory.copy(to + behind - length, from + behind - length, length);
    else for (let i: usize = 0; i < n; i++) setElement(to - (i << size), size, element(from, i, size, true));
    return;
  }
  if (to > from && to < from + length) {
    // Onto itself: what was written is read again.
    for (let i: usize = 0; i < n; i++) setElement(to + (i << size), size, element(from, i, size, false));
    return;
  }
  if (length > SHORT) {
    memory.copy(to, from, length);
    return;
  }
  let i: usize = 0;
  for (; i + 8 <= length; i += 8) store<u64>(to + i, load<u64>(from + i));
  for (; i < length; i++) store<u8>(to + i, load<u8>(from + i));
}

/** Gives `n` elements from `at` upwards a value. */
export function fillElements(at: usize, value: u64, size: i32, n: usize): void {
  const length = n << size;
  if (size == 0 && length > SHORT) {
    memory.fill(at, <u8>value, length);
    return;
  }
  const many = splat(value, size);
  let i: usize = 0;
  for (; i + 16 <= length; i += 16) v128.store(at + i, many);
  for (; i < length; i += 1 << size) setElement(at + i, size, value);
}

/** The first of `n` elements that is equal to a value or, for `whileEqual`, is not; `n` if none. */
export function scanElements(at: usize, value: u64, size: i32, n: usize, whileEqual: bool, down: bool): usize {
  let i: usize = 0;
  if (!down) {
    const wanted = splat(value, size);
    const flip = whileEqual ? 0xffff : 0;
    const block: usize = 16 >> size;
    for (; i + block <= n; i += block) {
      const found = equalBytes(v128.load(at + (i << size)), wanted, size) ^ flip;
      if (found) return i + (<usize>ctz(found) >> size);
    }
  }
  while (i < n && (element(at, i, size, down) == value) == whileEqual) i++;
  return i;
}

/** The first of `n` pairs of elements that are equal or, for `whileEqual`, are not; `n` if none. */
export function compareElements(a: usize, b: usize, size: i32, n: usize, whileEqual: bool, down: bool): usize {
  let i: usize = 0;
  if (!down) {
    const flip = whileEqual ? 0xffff : 0;
    const block: usize = 16 >> size;
    for (; i + block <= n; i += block) {
      const found = equalBytes(v128.load(a + (i << size)), v128.load(b + (i << size)), size) ^ flip;
      if (found) return i + (<usize>ctz(found) >> size);
    }
  }
  while (i < n && (element(a, i, size, down) == element(b, i, size, down)) == whileEqual) i++;
  return i;
}
