/**
 * Reads msgpack whose structure is known to be sound: this node wrote it and has checked its hash, or has walked through it before. A
 * replay decodes millions of events with the same few keys; this takes half the time that msgpackr does, and each text gets memory of
 * its own (msgpackr's are parts of the whole event's, which then stays in memory with them).
 */

/** Slots for keys: Pando's formats have some dozens. */
const KEY_SLOTS = 1024;
/** Characters of a DatasetId: texts of this length come again and again, once for each event of a dataset. */
const ID_LENGTH = 36;
/** Slots for ids: most of a large tree's datasets, at about 100 bytes each. */
const ID_SLOTS = 8192;

interface CachedText {
  readonly bytes: Uint8Array;
  readonly text: string;
}

type TextCache = (CachedText | undefined)[];

/** A cursor over msgpack (its specification: "Formats"). Bytes that are none make it throw a RangeError. */
export class MsgpackReader {
  #bytes: Buffer = Buffer.alloc(0);
  #view = new DataView(this.#bytes.buffer);
  #offset = 0;
  readonly #keys: TextCache = new Array(KEY_SLOTS).fill(undefined);
  readonly #ids: TextCache = new Array(ID_SLOTS).fill(undefined);

  /** The value that these bytes are. */
  read(bytes: Uint8Array): unknown {
    // Events lie in pages: the page is prepared once, not each event in it.
    if (this.#bytes.buffer !== bytes.buffer) {
      this.#bytes = Buffer.from(bytes.buffer);
      this.#view = new DataView(bytes.buffer);
    }
    this.#offset = bytes.byteOffset;
    const value = this.#value();
    if (this.#offset !== bytes.byteOffset + bytes.length) throw new RangeError('The bytes are not one msgpack value.');
    return value;
  }

  #value(): unknown {
    const type = this.#unsigned(1);
    if (type < 0x80) return type;
    if (type < 0x90) return this.#map(type & 0x0f);
    if (type < 0xa0) return this.#array(type & 0x0f);
    if (type < 0xc0) return this.#text(type & 0x1f);
    if (type >= 0xe0) return type - 0x100;
    return type < 0xca || type > 0xd3 ? this.#long(type) : this.#number(type);
  }

  #number(type: number): number {
    const offset = this.#offset;
    switch (type) {
      case 0xca:
        this.#offset += 4;
        return this.#view.getFloat32(offset);
      case 0xcb:
        this.#offset += 8;
        return this.#view.getFloat64(offset);
      case 0xcc:
        return this.#unsigned(1);
      case 0xcd:
        return this.#unsigned(2);
      case 0xce:
        return this.#unsigned(4);
      case 0xcf:
        this.#offset += 8;
        return Number(this.#view.getBigUint64(offset));
      case 0xd0:
        this.#offset += 1;
        return this.#view.getInt8(offset);
      case 0xd1:
        this.#offset += 2;
        return this.#view.getInt16(offset);
      case 0xd2:
        this.#offset += 4;
        return this.#view.getInt32(offset);
      default:
        this.#offset += 8;
        return Number(this.#view.getBigInt64(offset));
    }
  }

  #long(type: number): unknown {
    switch (type) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.#binary(this.#unsigned(1));
      case 0xc5:
        return this.#binary(this.#unsigned(2));
      case 0xc6:
        return this.#binary(this.#unsigned(4));
      case 0xd9:
        return this.#text(this.#unsigned(1));
      case 0xda:
        return this.#text(this.#unsigned(2));
      case 0xdb:
        return this.#text(this.#unsigned(4));
      case 0xdc:
        return this.#array(this.#unsigned(2));
      case 0xdd:
        return this.#array(this.#unsigned(4));
      case 0xde:
        return this.#map(this.#unsigned(2));
      case 0xdf:
        return this.#map(this.#unsigned(4));
      default:
        throw new RangeError(`Pando writes no msgpack of type 0x${type.toString(16)}.`);
    }
  }

  #unsigned(bytes: 1 | 2 | 4): number {
    const offset = this.#offset;
    this.#offset += bytes;
    if (bytes === 1) return this.#view.getUint8(offset);
    return bytes === 2 ? this.#view.getUint16(offset) : this.#view.getUint32(offset);
  }

  /** Where `length` bytes, or entries of a byte at least, begin, if there can be as many. */
  #expect(length: number): number {
    if (this.#offset + length > this.#bytes.length) throw new RangeError('A msgpack length leads beyond its bytes.');
    return this.#offset;
  }

  #text(length: number): string {
    const start = this.#expect(length);
    if (length === ID_LENGTH) return this.#cached(this.#ids, this.#idSlot(start), length);
    this.#offset += length;
    return this.#bytes.toString('utf8', start, this.#offset);
  }

  /** A copy: what is kept of an event must not keep the page. */
  #binary(length: number): Buffer {
    const start = this.#expect(length);
    this.#offset += length;
    return Buffer.from(this.#bytes.subarray(start, this.#offset));
  }

  #array(length: number): unknown[] {
    this.#expect(length);
    const array: unknown[] = [];
    for (let index = 0; index < length; index += 1) array.push(this.#value());
    return array;
  }

  #map(length: number): Record<string, unknown> {
    this.#expect(length);
    const map: Record<string, unknown> = {};
    for (let index = 0; index < length; index += 1) {
      const key = this.#key();
      map[key] = this.#value();
    }
    return map;
  }

  /** A key. Short ones are looked up by their bytes, since a new string for each would cost more than all the rest. */
  #key(): string {
    const type = this.#view.getUint8(this.#offset);
    if (type < 0xa0 || type >= 0xc0) return safeKey(String(this.#value()));
    const length = type & 0x1f;
    this.#offset += 1;
    const start = this.#expect(length);
    return safeKey(this.#cached(this.#keys, this.#keySlot(start, length), length));
  }

  /** A text by its bytes, from the cache or into it: the same string each time costs no memory, and is quickly found in a table. */
  #cached(cache: TextCache, slot: number, length: number): string {
    const start = this.#offset;
    const cached = cache[slot];
    if (cached !== undefined && this.#holds(cached.bytes, start, length)) {
      this.#offset += length;
      return cached.text;
    }
    const bytes = this.#binary(length);
    const text = bytes.toString();
    cache[slot] = { bytes, text };
    return text;
  }

  #keySlot(start: number, length: number): number {
    if (length === 0) return 0;
    const bytes = this.#bytes;
    const first = bytes[start] as number;
    const middle = bytes[start + (length >> 1)] as number;
    const last = bytes[start + length - 1] as number;
    return (31 * length + 7 * first + 3 * middle + 13 * last) % KEY_SLOTS;
  }

  /** By the last eight characters: the random part of a UUIDv7 (RFC 9562). */
  #idSlot(start: number): number {
    const end = start + ID_LENGTH - 4;
    const hash = Math.imul(this.#view.getUint32(end - 4), 31) + this.#view.getUint32(end);
    return (Math.imul(hash, 0x9e3779b1) >>> 16) % ID_SLOTS;
  }

  #holds(key: Uint8Array, start: number, length: number): boolean {
    if (key.length !== length) return false;
    for (let index = 0; index < length; index += 1) {
      if (key[index] !== this.#bytes[start + index]) return false;
    }
    return true;
  }
}

/** As msgpackr does: no key can reach an object's prototype. */
function safeKey(key: string): string {
  return key === '__proto__' ? '__proto_' : key;
}
