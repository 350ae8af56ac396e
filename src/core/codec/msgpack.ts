/**
 * msgpack as Pando writes and reads it, on disk and on the wire: plain values only, no extension types, and nothing
 * decoded before its structure was checked against the bytes that are really there (invariant 8).
 */
import { Packr } from 'msgpackr';
import { PandoError } from '../errors.ts';
import { MsgpackReader } from './msgpack-reader.ts';

/** No message or event nests deeper than this; deeper input is an attack on the stack. */
const NESTING_DEPTH_MAX = 16;

// An undefined value would be written as an extension, which no reader of Pando takes.
const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true });

/** Encodes a plain value (null, booleans, numbers, strings, bytes, arrays, objects). The result is the caller's own. */
export function pack(value: unknown): Uint8Array {
  return packr.pack(value);
}

const reader = new MsgpackReader();

/** Decodes bytes that this node wrote itself and has checked by hash. */
export function unpackTrusted(bytes: Uint8Array): unknown {
  return reader.read(bytes);
}

/** Decodes bytes from anywhere. Throws `CODEC_INVALID` when they are not exactly one plain msgpack value. */
export function unpack(bytes: Uint8Array): unknown {
  checkStructure(bytes);
  return reader.read(bytes);
}

function refuse(why: string, offset: number): never {
  throw new PandoError('CODEC_INVALID', `The bytes are not a msgpack value that Pando reads: ${why}.`, { offset });
}

/** Where a container or a scalar ends: how many bytes its header and body take, and how many values it contains. */
interface Extent {
  readonly bytes: number;
  readonly values: number;
}

/** Fixed sizes of the scalars 0xca (float 32) to 0xd3 (int 64), header included (msgpack specification, "Formats"). */
const NUMBER_BYTES = [5, 9, 2, 3, 5, 9, 2, 3, 5, 9];

function lengthAt(view: DataView, offset: number, lengthBytes: 1 | 2 | 4): number {
  if (offset + 1 + lengthBytes > view.byteLength) return refuse('it ends within a length', offset);
  if (lengthBytes === 1) return view.getUint8(offset + 1);
  return lengthBytes === 2 ? view.getUint16(offset + 1) : view.getUint32(offset + 1);
}

function bytesExtent(view: DataView, offset: number, lengthBytes: 1 | 2 | 4): Extent {
  return { bytes: 1 + lengthBytes + lengthAt(view, offset, lengthBytes), values: 0 };
}

function containerExtent(view: DataView, offset: number, lengthBytes: 2 | 4, valuesEach: 1 | 2): Extent {
  return { bytes: 1 + lengthBytes, values: valuesEach * lengthAt(view, offset, lengthBytes) };
}

function fixExtent(type: number): Extent | undefined {
  if (type < 0x80 || type >= 0xe0) return { bytes: 1, values: 0 };
  if (type < 0x90) return { bytes: 1, values: 2 * (type & 0x0f) };
  if (type < 0xa0) return { bytes: 1, values: type & 0x0f };
  if (type < 0xc0) return { bytes: 1 + (type & 0x1f), values: 0 };
  return undefined;
}

function extentAt(view: DataView, offset: number): Extent {
  const type = view.getUint8(offset);
  const fixed = fixExtent(type);
  if (fixed !== undefined) return fixed;
  if (type >= 0xca && type <= 0xd3) return { bytes: NUMBER_BYTES[type - 0xca] as number, values: 0 };
  switch (type) {
    case 0xc0:
    case 0xc2:
    case 0xc3:
      return { bytes: 1, values: 0 };
    case 0xc4:
    case 0xd9:
      return bytesExtent(view, offset, 1);
    case 0xc5:
    case 0xda:
      return bytesExtent(view, offset, 2);
    case 0xc6:
    case 0xdb:
      return bytesExtent(view, offset, 4);
    case 0xdc:
      return containerExtent(view, offset, 2, 1);
    case 0xdd:
      return containerExtent(view, offset, 4, 1);
    case 0xde:
      return containerExtent(view, offset, 2, 2);
    case 0xdf:
      return containerExtent(view, offset, 4, 2);
    default:
      return refuse(`it holds an extension type (0x${type.toString(16)})`, offset);
  }
}

/** Walks the headers without building anything, so that a length that lies cannot make the decoder allocate. */
function checkStructure(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const open: number[] = [1];
  let offset = 0;
  while (open.length > 0) {
    const missing = open.pop() as number;
    if (missing === 0) continue;
    open.push(missing - 1);
    if (offset >= view.byteLength) refuse('it ends too early', offset);
    const extent = extentAt(view, offset);
    offset += extent.bytes;
    if (offset + extent.values > view.byteLength) refuse('it claims more than it holds', offset);
    if (extent.values > 0) open.push(extent.values);
    if (open.length > NESTING_DEPTH_MAX) refuse(`it nests deeper than ${NESTING_DEPTH_MAX}`, offset);
  }
  if (offset !== view.byteLength) refuse('more bytes follow', offset);
}
