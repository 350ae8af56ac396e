/**
 * Quoted texts in filters, as containerd reads them (`filters/quote.go` there): those of Go between double quotes, and for regular
 * expressions also between slashes and bars.
 */

/** What follows a backslash and stands for one byte. */
const SIMPLE_ESCAPES: Readonly<Record<string, number>> = {
  a: 0x07,
  b: 0x08,
  t: 0x09,
  n: 0x0a,
  v: 0x0b,
  f: 0x0c,
  r: 0x0d,
  '\\': 0x5c,
};

/** Hexadecimal digits after each of these letters. */
const HEX_DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

const HEX_DIGITS_MAX = Math.max(...Object.values(HEX_DIGITS));
const OCTAL_DIGITS = 3;
const BYTE_MAX = 0xff;
const CODE_POINT_MAX = 0x10ffff;

/** A text without its quotes and escapes, and where it ended. */
export interface Unquoted {
  readonly text: string;
  /** Index after the closing quote. */
  readonly end: number;
}

/** Why a quoted text cannot be read. */
export interface QuoteFault {
  readonly fault: string;
}

interface Escape {
  readonly bytes: Uint8Array;
  readonly length: number;
}

const encoder = new TextEncoder();

function number(digits: readonly string[], count: number, base: 8 | 16): number | null {
  const text = digits.slice(0, count).join('');
  const pattern = base === 8 ? /^[0-7]+$/ : /^[0-9A-Fa-f]+$/;
  return text.length === count && pattern.test(text) ? Number.parseInt(text, base) : null;
}

function octalEscape(after: readonly string[]): Escape | QuoteFault {
  const value = number(after, OCTAL_DIGITS, 8);
  if (value === null || value > BYTE_MAX) return { fault: 'there is an illegal numeric escape sequence' };
  return { bytes: Uint8Array.of(value), length: OCTAL_DIGITS };
}

function hexEscape(letter: string, count: number, after: readonly string[]): Escape | QuoteFault {
  const value = number(after.slice(1), count, 16);
  if (value === null || value > CODE_POINT_MAX) return { fault: 'there is an illegal numeric escape sequence' };
  const bytes = letter === 'x' ? Uint8Array.of(value) : encoder.encode(String.fromCodePoint(value));
  return { bytes, length: 1 + count };
}

/** Reads what follows a backslash. */
function escapeAt(characters: readonly string[], index: number, quote: string): Escape | QuoteFault {
  const after = characters.slice(index, index + 1 + HEX_DIGITS_MAX);
  const [first = ''] = after;
  if (first === quote) return { bytes: encoder.encode(quote), length: 1 };
  const simple = SIMPLE_ESCAPES[first];
  if (simple !== undefined) return { bytes: Uint8Array.of(simple), length: 1 };
  const hexDigits = HEX_DIGITS[first];
  if (hexDigits !== undefined) return hexEscape(first, hexDigits, after);
  return /^[0-7]$/.test(first) ? octalEscape(after) : { fault: 'there is an illegal escape sequence' };
}

/**
 * Reads the quoted text that begins at `start`, where its opening quote stands. Escapes may stand for single bytes; together they have to
 * be UTF-8, since no label, key or name is anything else.
 */
export function unquote(characters: readonly string[], start: number): Unquoted | QuoteFault {
  const quote = characters[start] ?? '';
  const parts: Uint8Array[] = [];
  let index = start + 1;
  for (;;) {
    const character = characters[index];
    if (character === undefined || character === '\n') return { fault: 'the quoted text has no end' };
    index += 1;
    if (character === quote) break;
    if (character !== '\\') {
      parts.push(encoder.encode(character));
      continue;
    }
    const escaped = escapeAt(characters, index, quote);
    if ('fault' in escaped) return escaped;
    parts.push(escaped.bytes);
    index += escaped.length;
  }
  const text = decodeUtf8(parts);
  return text === null ? { fault: 'the escapes of the quoted text are no UTF-8' } : { text, end: index };
}

function decodeUtf8(parts: readonly Uint8Array[]): string | null {
  try {
    const bytes = Uint8Array.from(parts.flatMap((part) => [...part]));
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}
