import fc from 'fast-check';
import { Packr } from 'msgpackr';
import { describe, expect, it } from 'vitest';
import {
  chainHash,
  chainHashOfRun,
  genesisHash,
  hashText,
  sealCheckpoint,
  signHead,
  verifyHead,
  verifySeal,
} from '../../src/core/codec/chain.ts';
import { CheckpointReader, checkpointDigest, encodeCheckpoint } from '../../src/core/codec/checkpoint-codec.ts';
import { decodeEvent, decodeStoredEvent, EVENT_BYTES_MAX, encodeEvent } from '../../src/core/codec/event-codec.ts';
import { sha256 } from '../../src/core/codec/hash.ts';
import { nodeIdOfPublicKey } from '../../src/core/codec/key-proof.ts';
import { pack, unpack, unpackTrusted } from '../../src/core/codec/msgpack.ts';
import type { EventBody, KnownEvent } from '../../src/core/events.ts';
import { GraphDraft } from '../../src/core/graph/draft.ts';
import { fold } from '../../src/core/graph/fold.ts';
import { EMPTY_GRAPH, type Graph } from '../../src/core/graph/graph.ts';
import {
  type BookmarkName,
  type DatasetName,
  parseTransferId,
  type RelativeName,
  type SnapshotName,
  streamIdOf,
  type TreeName,
} from '../../src/core/ids.ts';
import {
  asEvent,
  contentsOf,
  datasetCreated,
  datasetId,
  fittingBodies,
  smallTree,
  snapshot,
  snapshotCreated,
} from '../log/bodies.ts';
import { signerOf } from '../log/identity.ts';

const key = fc.string({ maxLength: 40 }).filter((text) => text !== '__proto__');

/** Values that msgpack carries for Pando; a number is an integer that a double holds, or any double. */
const plainValue = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom(null, true, false),
    fc.maxSafeInteger(),
    fc.double().map((number) => number + 0),
    fc.string({ unit: 'grapheme', maxLength: 80 }),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    fc.array(tie('value'), { maxLength: 20 }),
    fc.dictionary(key, tie('value'), { maxKeys: 20 }).map((entries) => ({ ...entries })),
  ),
})).value;

describe('msgpack', () => {
  it('gives back any plain value, whether it trusts the bytes or not', () => {
    fc.assert(
      fc.property(plainValue, (value) => {
        const bytes = pack(value);
        expect(unpack(bytes)).toEqual(value);
        expect(unpackTrusted(bytes)).toEqual(value);
      }),
    );
  });

  it('reads whatever another writer of msgpack may choose for the same values', () => {
    const sizes = [0, 1, 31, 32, 255, 256, 65_535, 65_536];
    for (const size of sizes) {
      const values = ['x'.repeat(size), Buffer.alloc(size, 7), new Array(size).fill(1)];
      for (const value of values) expect(unpack(pack(value))).toEqual(value);
    }
    const keys = Object.fromEntries(Array.from({ length: 70_000 }, (_, index) => [`key ${index}`, index]));
    expect(unpack(new Packr({ useRecords: false, variableMapSize: true }).pack(keys))).toEqual(keys);
    const numbers: [string, number][] = [
      ['d080', -128],
      ['d1ff00', -256],
      ['d2ffff0000', -65_536],
      ['d3ffffffffffffff00', -256],
      ['cf0000000100000000', 2 ** 32],
      ['ca3fc00000', 1.5],
      ['e0', -32],
      ['d90161', 'a' as unknown as number],
    ];
    for (const [hex, value] of numbers) expect(unpack(Buffer.from(hex, 'hex'))).toBe(value);
  });

  it('reads a value in the middle of other memory, and keeps none of it', () => {
    const value = { name: 'layer', bytes: Buffer.from([1, 2, 3]), list: [1, 'two'] };
    const bytes = pack(value);
    const memory = new Uint8Array(bytes.length + 200).fill(0xff);
    memory.set(bytes, 100);
    const decoded = unpackTrusted(memory.subarray(100, 100 + bytes.length));
    memory.fill(0);
    expect(decoded).toEqual(value);
  });

  it.each([
    ['nothing at all', ''],
    ['a text that is shorter than its length', 'a361'],
    ['a length that is cut off', 'd9'],
    ['an array of four thousand million', 'ddffffffff'],
    ['a map that claims more than there is', 'df00ffffff01'],
    ['bytes that claim four gigabytes', 'c6ffffffff00'],
    ['a text of four gigabytes', 'dbffffffff41'],
    ['two values', '0101'],
    ['an extension', 'd40100'],
    ['a timestamp', 'd6ff00000000'],
    ['an extension of any length', 'c7010001'],
    ['the type that is never used', 'c1'],
    ['an array in an array, too deep', `${'91'.repeat(17)}01`],
    ['maps that go on for ever', '81a161'.repeat(1000)],
  ])('refuses %s', (_, hex) => {
    expect(() => unpack(Buffer.from(hex, 'hex'))).toThrow(expect.objectContaining({ code: 'CODEC_INVALID' }));
  });

  it('takes what nests no deeper than sixteen', () => {
    expect(JSON.stringify(unpack(Buffer.from(`${'91'.repeat(15)}01`, 'hex')))).toBe(
      `${'['.repeat(15)}1${']'.repeat(15)}`,
    );
  });

  it('takes or refuses any bytes, and never fails in another way', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        try {
          unpack(bytes);
        } catch (error) {
          expect(error).toMatchObject({ code: 'CODEC_INVALID' });
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('writes null where a value is undefined, so that it can be read at all', () => {
    expect(unpack(pack({ a: undefined, b: [undefined] }))).toEqual({ a: null, b: [null] });
  });

  it('lets no key reach the prototype of anything', () => {
    const bytes = Buffer.concat([
      Buffer.from([0x81, 0xa9]),
      Buffer.from('__proto__'),
      Buffer.from([0x81, 0xa1, 0x61, 0x01]),
    ]);
    for (const value of [unpack(bytes), unpackTrusted(bytes)]) {
      expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
      expect((value as { a?: number }).a).toBeUndefined();
    }
  });

  it('fails in a way that can be told as damage when trusted bytes are none', () => {
    for (const hex of ['c1', 'dd7fffffff', 'dbffffffff41', '0101', 'a361', '']) {
      expect(() => unpackTrusted(Uint8Array.from(Buffer.from(hex, 'hex')))).toThrow(RangeError);
    }
  });
});

const node = signerOf(1).node;
const TREE = 'images' as TreeName;
const everyBody: EventBody[] = [
  ...smallTree(2),
  datasetCreated(2, 'clone', { dataset: datasetId(1), snapshot: snapshot(1).guid }),
  datasetCreated(3, 'foreign clone', { dataset: null, snapshot: snapshot(9).guid }),
  { type: 'dataset.renamed', dataset: datasetId(2), from: 'clone' as RelativeName, to: 'a b/c:d' as RelativeName },
  { type: 'dataset.promoted', dataset: datasetId(2) },
  { type: 'dataset.properties-changed', dataset: datasetId(1), changed: { 'x:note': 'ünïcode ✓', quota: null } },
  {
    type: 'snapshot.renamed',
    dataset: datasetId(1),
    guid: snapshot(2).guid,
    from: 's2' as SnapshotName,
    to: 'n' as SnapshotName,
  },
  { type: 'snapshot.destroyed', dataset: datasetId(1), guid: snapshot(2).guid, name: 'n' as SnapshotName },
  { type: 'ownership.claimed', dataset: datasetId(1), owner: { node, epoch: 7 } },
  { type: 'dataset.destroyed', dataset: datasetId(3), name: 'foreign clone' as RelativeName },
  { type: 'tree.removed' },
  { type: 'peer.removed', peer: node },
  { type: 'local-tree.added', tree: TREE, root: 'tank/images' as DatasetName },
  { type: 'local-tree.removed', tree: TREE },
  { type: 'mirror.removed', tree: TREE, from: node },
  { type: 'transfer.ended', transfer: parseTransferId(datasetId(4)), outcome: 'completed', bytes: 2 ** 40 },
];

describe('Events as bytes', () => {
  it.each(everyBody.map((body) => [body.type, body] as const))('come back as they were: %s', (_, body) => {
    const event = asEvent(body, 41) as KnownEvent;
    const bytes = encodeEvent(event);
    expect(decodeEvent(bytes)).toEqual(event);
    expect(decodeStoredEvent(bytes)).toEqual(event);
  });

  it('of a type that a later version brings are unknown, with their type by name', () => {
    const bytes = pack({ v: 1, seq: 3, at: 9, cause: 'observed', type: 'quota.reached', bytes: 7 });
    const expected = { v: 1, seq: 3, at: 9, cause: 'observed', type: 'unknown', originalType: 'quota.reached' };
    expect(decodeEvent(bytes)).toEqual(expected);
    expect(decodeStoredEvent(bytes)).toEqual(expected);
  });

  it('with fields that a later version brings are read without those', () => {
    const event = asEvent(everyBody[0] as EventBody, 0);
    expect(decodeEvent(pack({ ...event, praise: 'much' }))).toEqual(event);
  });

  it('of a later format are refused as that', () => {
    expect(() => decodeEvent(pack({ v: 2, seq: 1 }))).toThrow(expect.objectContaining({ code: 'CODEC_VERSION' }));
  });

  it('that are too large are refused before anyone keeps or sends them', () => {
    const changed = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`p${index}`, 'x'.repeat(8_000)]));
    const event = asEvent({ type: 'dataset.properties-changed', dataset: datasetId(1), changed }, 0) as KnownEvent;
    expect(() => encodeEvent(event)).toThrow(expect.objectContaining({ code: 'EVENT_INVALID' }));
    expect(() => decodeEvent(pack(event))).toThrow(expect.objectContaining({ code: 'EVENT_INVALID' }));
    expect(pack(event).length).toBeGreaterThan(EVENT_BYTES_MAX);
  });

  const created = asEvent(datasetCreated(1, 'fine'), 0);
  const taken = asEvent(snapshotCreated(1, 1), 0) as Extract<KnownEvent, { type: 'snapshot.created' }>;
  const claimed = asEvent({ type: 'ownership.claimed', dataset: datasetId(1), owner: { node, epoch: 1 } }, 0);
  const withSnapshot = (change: object) => ({ ...taken, snapshot: { ...taken.snapshot, ...change } });
  const malformed: [string, unknown][] = [
    ['no object', 7],
    ['nothing', null],
    ['no number', { ...created, seq: undefined }],
    ['a number of zero', { ...created, seq: 0 }],
    ['half a number', { ...created, seq: 1.5 }],
    ['a moment before time', { ...created, at: -1 }],
    ['an unheard-of cause', { ...created, cause: 'magic' }],
    ['a type of no length', { ...created, type: '' }],
    ['a type that is no text', { ...created, type: 7 }],
    ['a dataset id with a typing error', { ...created, dataset: `${datasetId(1).slice(0, -1)}x` }],
    ['a dataset id of another kind', { ...created, dataset: '6ba7b810-9dad-41d1-80b4-00c04fd430c8' }],
    ['a guid with a leading zero', withSnapshot({ guid: '012' })],
    ['a guid of 65 bits', withSnapshot({ guid: '18446744073709551616' })],
    ['a guid below zero', withSnapshot({ guid: '-1' })],
    ['a name that climbs', { ...created, name: '../etc' }],
    ['a name that climbs in the middle', { ...created, name: 'a/../../b' }],
    ['a name with a snapshot in it', { ...created, name: 'a@b' }],
    ['a name with NUL', { ...created, name: 'a\0b' }],
    ['a name with a newline', { ...created, name: 'a\nb' }],
    ['a name that begins with a slash', { ...created, name: '/a' }],
    ['a name that ends with a slash', { ...created, name: 'a/' }],
    ['a name of 300 characters', { ...created, name: 'a'.repeat(300) }],
    ['a snapshot name with a slash', withSnapshot({ name: 'a/b' })],
    ['a snapshot name of nothing', withSnapshot({ name: '' })],
    ['a size below zero', withSnapshot({ referenced: -1 })],
    ['a size that is no number', withSnapshot({ written: 'much' })],
    ['an endless size', withSnapshot({ referenced: Number.POSITIVE_INFINITY })],
    [
      'an owner with a typing error',
      { ...claimed, owner: { node: `A${node.slice(1)}`.replace(/^AA/, 'AB'), epoch: 1 } },
    ],
    ['an epoch of zero', { ...claimed, owner: { node, epoch: 0 } }],
    ['a guess that is none', { ...claimed, owner: { node, epoch: 1, isGuess: false } }],
    ['properties that are a list', { ...created, properties: ['a'] }],
    [
      'too many properties',
      { ...created, properties: Object.fromEntries(Array.from({ length: 257 }, (_, n) => [`p${n}`, ''])) },
    ],
    ['a property that is too long', { ...created, properties: { a: 'x'.repeat(8_193) } }],
  ];

  it.each(malformed)('are refused with %s', (_, value) => {
    expect(() => decodeEvent(pack(value))).toThrow(expect.objectContaining({ code: 'EVENT_INVALID' }));
  });

  it('of a type that every object has by nature are unknown', () => {
    expect(decodeEvent(pack({ ...created, type: 'constructor' }))).toMatchObject({
      type: 'unknown',
      originalType: 'constructor',
    });
  });
});

describe('The chain of a stream', () => {
  const author = signerOf(1);
  const stream = streamIdOf(author.node, TREE);
  const head = { stream, incarnation: 1, seq: 5, hash: sha256(Buffer.from('events')) };

  it('hashes with SHA-256', () => {
    expect(hashText(sha256(Buffer.from('abc')))).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
  });

  it('covers the hash before and the event, of any size', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 20_000 }), (event) => {
        const before = sha256(Buffer.from('before'));
        const run = Buffer.concat([before, event]);
        expect(hashText(chainHash(before, event))).toBe(hashText(sha256(run)));
        expect(chainHashOfRun(run)).toBe(Buffer.from(sha256(run)).toString('latin1'));
      }),
    );
  });

  it('begins differently in each stream and incarnation', () => {
    const other = streamIdOf(signerOf(2).node, TREE);
    const hashes = [genesisHash(stream, 1), genesisHash(stream, 2), genesisHash(other, 1)].map(hashText);
    expect(new Set(hashes).size).toBe(3);
  });

  it('accepts a head that its author signed, and no other', () => {
    const signed = signHead(head, author);
    verifyHead(signed);
    const refused = expect.objectContaining({ code: 'LOG_CORRUPT' });
    expect(() => verifyHead({ ...signed, seq: 6 })).toThrow(refused);
    expect(() => verifyHead({ ...signed, incarnation: 2 })).toThrow(refused);
    expect(() => verifyHead({ ...signed, hash: sha256(Buffer.from('others')) })).toThrow(refused);
    expect(() => verifyHead({ ...signed, keyProof: new Uint8Array(31) })).toThrow(refused);
    expect(() => verifyHead({ ...signed, signature: new Uint8Array(0) })).toThrow(refused);
    expect(() => verifyHead(signHead(head, signerOf(2)))).toThrow(refused);
    expect(() => verifyHead({ ...signed, stream: streamIdOf(author.node, 'homes' as TreeName) })).toThrow(refused);
  });

  it('takes a seal for that of its author unless told whose it is', () => {
    const digest = sha256(Buffer.from('chunks'));
    verifySeal(sealCheckpoint(head, digest, author));
    const kept = sealCheckpoint(head, digest, signerOf(2));
    verifySeal(kept, signerOf(2).node);
    const refused = expect.objectContaining({ code: 'LOG_CORRUPT' });
    expect(() => verifySeal(kept)).toThrow(refused);
    expect(() => verifySeal({ ...kept, digest: sha256(Buffer.from('others')) }, signerOf(2).node)).toThrow(refused);
    const { keyProof, signature } = signHead(head, author);
    expect(() => verifySeal({ head, digest, keyProof, signature })).toThrow(refused);
  });

  it('names a node after its key', () => {
    expect(nodeIdOfPublicKey(author.keyProof)).toBe(author.node);
  });
});

function graphOf(bodies: readonly EventBody[]): Graph {
  return fold(EMPTY_GRAPH, bodies.map(asEvent));
}

function readBack(chunks: Iterable<Uint8Array>, trusted: boolean): { graph: Graph; at: number } {
  const reader = new CheckpointReader({ trusted });
  for (const chunk of chunks) reader.add(chunk);
  return { graph: reader.finish().graph, at: reader.at };
}

describe('Checkpoints as chunks', () => {
  it('come back as the graph they were, with the moment it stands for', () => {
    fc.assert(
      fc.property(fittingBodies, fc.nat(), fc.boolean(), (bodies, at, trusted) => {
        const graph = graphOf(bodies);
        const back = readBack(encodeCheckpoint(graph, at), trusted);
        expect(contentsOf(back.graph)).toEqual(contentsOf(graph));
        expect([...back.graph.images]).toEqual([...graph.images]);
        expect(back.at).toBe(at);
      }),
    );
  });

  it('divide datasets with many snapshots, and have the digest that their reader finds', () => {
    const graph = graphOf([...smallTree(9_000), datasetCreated(2), snapshotCreated(2, 9_001)]);
    const chunks = [...encodeCheckpoint(graph, 1)];
    expect(chunks.length).toBeGreaterThan(2);
    const reader = new CheckpointReader({ trusted: false });
    for (const chunk of chunks) reader.add(chunk);
    const { graph: back, digest } = reader.finish();
    expect(contentsOf(back)).toEqual(contentsOf(graph));
    expect(hashText(digest)).toBe(hashText(checkpointDigest(chunks)));
  });

  it('divide datasets with many bookmarks', () => {
    const { guid, createtxg } = snapshot(1);
    const draft = new GraphDraft(graphOf(smallTree(1)));
    draft.change(datasetId(1)).bookmarks = Array.from({ length: 9_000 }, (_, number) => ({
      guid,
      name: `mark-${String(number).padStart(4, '0')}` as BookmarkName,
      createtxg,
    }));
    const graph = draft.finish();
    const chunks = [...encodeCheckpoint(graph, 1)];
    expect(chunks.length).toBeGreaterThan(2);
    expect(contentsOf(readBack(chunks, false).graph)).toEqual(contentsOf(graph));
  });

  it('are the same bytes each time', () => {
    const graph = graphOf(smallTree(50));
    expect([...encodeCheckpoint(graph, 1)]).toEqual([...encodeCheckpoint(graph, 1)]);
  });

  it('of an empty graph are one', () => {
    expect([...encodeCheckpoint(EMPTY_GRAPH, 0)]).toHaveLength(1);
  });

  const [chunk] = [...encodeCheckpoint(graphOf(smallTree(2)), 5)] as [Uint8Array];
  const [version, at, root, [row]] = unpack(chunk) as [number, number, string, [unknown[]]];
  const changed = (index: number, value: unknown) => pack([version, at, root, [row.with(index, value)]]);
  const columns = row[10] as unknown[];

  it.each<[string, Uint8Array[]]>([
    ['no msgpack', [Buffer.from('no chunk')]],
    ['of a later format', [pack([version + 1, at, root, []])]],
    ['without a moment', [pack([version, null, root, []])]],
    ['with a root that climbs', [pack([version, at, '../etc', []])]],
    ['with a dataset name that climbs', [changed(3, 'a/../b')]],
    ['with a dataset twice', [chunk, chunk]],
    ['that carry on with what never began', [changed(11, true)]],
    ['with a snapshot cut short', [changed(10, columns.slice(0, -1))]],
    ['with a snapshot name that is none', [changed(10, columns.with(1, 'a@b'))]],
    ['with a guid that is none', [changed(10, columns.with(0, 'guid'))]],
    ['with a received snapshot that is none', [changed(9, 'guid')]],
    ['with too many snapshots in a row', [changed(10, new Array(24_001).fill(1))]],
    ['with a guess about what it does not hold', [chunk, pack([5, at, root, [], [], [datasetId(77)]])]],
    ['with a guess that names no dataset', [chunk, pack([5, at, root, [], [], ['web']])]],
  ])('are refused %s', (_, chunks) => {
    expect(() => readBack(chunks, false)).toThrow(expect.objectContaining({ code: 'CODEC_INVALID' }));
  });
});
