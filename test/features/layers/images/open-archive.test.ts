import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { digestOf } from '../../../../src/core/layers/digest.ts';
import { EXPANSION_UNCHECKED_BYTES } from '../../../../src/features/layers/images/decompression.ts';
import type { ImageSource } from '../../../../src/features/layers/images/image-source.ts';
import { type OpenOptions, openImage } from '../../../../src/features/layers/images/open-image.ts';
import { MemoryCompressor } from '../../../../src/transfer/compression/memory-compressor.ts';
import {
  bytesOf,
  type Content,
  configOf,
  failureOf,
  LayoutFixture,
  layerOf,
  named,
  readOptions,
  tarOf,
} from './image-fixture.ts';

let lower: Buffer;
let upper: Buffer;
let work: string;

beforeAll(async () => {
  lower = await tarOf({ 'etc/a': 'lower' });
  upper = await tarOf({ 'etc/b': 'upper' });
});

beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), 'pando-archive-'));
});

afterEach(() => rm(work, { recursive: true }));

async function open(archive: Uint8Array, prefix = '', name = '', options: Partial<OpenOptions> = {}) {
  const file = join(work, 'archive');
  await writeFile(file, archive);
  return openImage(`${prefix}${file}${name}`, { ...readOptions(), scratch: work, ...options });
}

function tarsOf(image: ImageSource): Promise<Buffer[]> {
  return Promise.all(image.layers.map((layer) => bytesOf(layer.open())));
}

/** The files that `docker save` writes for an image of these two layers; `layers` are the names of their files. */
function saved(
  layers: readonly [string, string],
  more: object = {},
  config = configOf([digestOf(lower), digestOf(upper)]),
) {
  const id = digestOf(config);
  const name = `${id.slice('sha256:'.length)}.json`;
  const manifest = [{ Config: name, RepoTags: ['one:latest'], Layers: layers, ...more }];
  return { id, files: { [name]: config, 'manifest.json': JSON.stringify(manifest) } as Record<string, Content> };
}

describe('an image in an archive of a layout', () => {
  let layout: LayoutFixture;

  beforeEach(() => {
    layout = new LayoutFixture();
    const image = layout.image([layerOf(lower, gzipSync(lower)), layerOf(upper)]);
    layout.index(named(image, 'one'));
  });

  it.each(['oci-archive:', ''])('is read in place (%s)', async (prefix) => {
    const image = await open(await tarOf(layout.files), prefix);
    expect(await tarsOf(image)).toEqual([lower, upper]);
    expect(await readdir(work)).toEqual(['archive']);
    await image.close();
  });

  it('is found by its name', async () => {
    const archive = await tarOf(layout.files);
    expect((await open(archive, 'oci-archive:', ':one')).layers).toHaveLength(2);
    expect(await failureOf(open(archive, 'oci-archive:', ':two'))).toMatchObject({ code: 'IMAGE_UNKNOWN' });
  });

  it('is preferred where an archive has what docker reads as well', async () => {
    Object.assign(layout.files, { 'manifest.json': '[]' });
    expect((await open(await tarOf(layout.files))).layers).toHaveLength(2);
  });

  it('is decompressed to scratch where the archive is compressed, which closing removes', async () => {
    const image = await open(gzipSync(await tarOf(layout.files)));
    expect(await tarsOf(image)).toEqual([lower, upper]);
    expect(await readdir(work)).toHaveLength(2);
    await image.close();
    expect(await readdir(work)).toEqual(['archive']);
  });
});

describe('an image that docker saved', () => {
  it.each(['docker-archive:', ''])('is known by its config, and has its layers as they are (%s)', async (prefix) => {
    const { id, files } = saved(['a/layer.tar', 'b/layer.tar']);
    const image = await open(await tarOf({ ...files, 'a/layer.tar': lower, 'b/layer.tar': gzipSync(upper) }), prefix);
    expect(image.manifest).toBe(id);
    expect(image.layers.map(({ size }) => size)).toEqual([lower.length, gzipSync(upper).length]);
    expect(await tarsOf(image)).toEqual([lower, upper]);
    await image.close();
  });

  it.each(['gnu', 'pax'])('has layers that are links to others, and long names (%s)', async (format) => {
    const long = 'long/'.repeat(50);
    const { files } = saved([`${long}layer.tar`, 'b/layer.tar']);
    const links = {
      [`${long}layer.tar`]: lower,
      'b/layer.tar': { linkTo: '../c/layer.tar' },
      'c/layer.tar': { linkTo: '../d' },
    };
    const image = await open(await tarOf({ ...files, ...links, d: upper }, format));
    expect(await tarsOf(image)).toEqual([lower, upper]);
  });

  it('is found by its tag, with or without "latest"', async () => {
    const { files } = saved(['a', 'b']);
    const archive = await tarOf({ ...files, a: lower, b: upper });
    for (const name of [':one', ':one:latest']) {
      expect((await open(archive, 'docker-archive:', name)).layers).toHaveLength(2);
    }
    const message = expect.stringContaining('one:latest');
    expect(await failureOf(open(archive, 'docker-archive:', ':two'))).toMatchObject({ code: 'IMAGE_UNKNOWN', message });
  });

  it('has to be named where there are several, and the names are told', async () => {
    const { files } = saved(['a', 'b']);
    const [one] = JSON.parse(String(files['manifest.json']));
    files['manifest.json'] = JSON.stringify([one, { ...one, RepoTags: ['two:1'] }, { ...one, RepoTags: null }]);
    const archive = await tarOf({ ...files, a: lower, b: upper });
    const message = expect.stringContaining('one:latest, two:1');
    expect(await failureOf(open(archive))).toMatchObject({ code: 'IMAGE_INVALID', message });
    expect((await open(archive, 'docker-archive:', ':two:1')).layers).toHaveLength(2);
  });

  it('is refused when a layer was read that has another DiffID', async () => {
    const { files } = saved(['a', 'b']);
    const { layers } = await open(await tarOf({ ...files, a: upper, b: upper }));
    const [first] = layers.map((layer) => layer.open());
    expect(first && (await failureOf(first))).toMatchObject({ code: 'DIGEST_MISMATCH' });
  });

  it('is refused where its config is not what its name says', async () => {
    const { files } = saved(['a', 'b'], { Config: `${'0'.repeat(64)}.json` });
    const config = configOf([digestOf(lower), digestOf(upper)]);
    const archive = await tarOf({ ...files, [`${'0'.repeat(64)}.json`]: config, a: lower, b: upper });
    expect(await failureOf(open(archive))).toMatchObject({ code: 'DIGEST_MISMATCH' });
  });

  it.each([
    ['a layer that is not there', ['a', 'c'], {}],
    ['fewer layers than its config', ['a'], {}],
    ['too many layers', Array(129).fill('a'), {}],
    ['a layer that is a directory', ['a', 'dir'], { 'dir/file': '' }],
    ['a manifest that is none', ['a', 'b'], { 'manifest.json': '{}' }],
    ['a manifest of no image', ['a', 'b'], { 'manifest.json': '[]' }],
    ['a layer that is a broken link', ['a', 'link'], { link: { linkTo: 'nothing' } }],
  ])('is refused with %s', async (_what, layers, more) => {
    const { files } = saved(layers as [string, string]);
    const archive = await tarOf({ ...files, a: lower, b: upper, ...more });
    expect(await failureOf(open(archive))).toMatchObject({ code: 'IMAGE_INVALID' });
  });

  it.each([
    ['to a file of the machine', '/etc/passwd'],
    ['above the archive', '../../etc/passwd'],
    ['in a circle', 'b'],
  ])('is refused with a layer that is a link %s', async (_what, linkTo) => {
    const { files } = saved(['a', 'b']);
    const error = await failureOf(open(await tarOf({ ...files, a: lower, b: { linkTo } })));
    expect(error).toMatchObject({ code: expect.stringMatching(/^(ARCHIVE|IMAGE)_INVALID$/) });
  });
});

describe('an archive that is none', () => {
  it.each([
    ['empty', Buffer.alloc(0), 'IMAGE_INVALID'],
    ['only zeros', Buffer.alloc(10_240), 'IMAGE_INVALID'],
    ['something else', Buffer.alloc(10_240, 'x'), 'ARCHIVE_INVALID'],
    ['compressed, but cut off', gzipSync(Buffer.alloc(10_240)).subarray(0, 20), 'ARCHIVE_INVALID'],
    ['a bomb', gzipSync(Buffer.alloc(2 * EXPANSION_UNCHECKED_BYTES)), 'ARCHIVE_INVALID'],
  ])('is refused, and leaves nothing: %s', async (_what, archive, code) => {
    expect(await failureOf(open(archive))).toMatchObject({ code });
    expect(await readdir(work)).toEqual(['archive']);
  });

  it('is refused where it was cut off', async () => {
    const archive = await tarOf(saved(['a', 'b']).files);
    expect(await failureOf(open(archive.subarray(0, 700)))).toMatchObject({ code: 'ARCHIVE_INVALID' });
  });

  it('is refused where a header tells of a name that does not end', async () => {
    const archive = await tarOf({ ['x'.repeat(200)]: '' });
    // The size of the long name, in octal (tar(5), "Numeric fields")
    archive.write('00077777777\0', 124, 'latin1');
    archive.write(checksum(archive), 148, 'latin1');
    expect(await failureOf(open(archive))).toMatchObject({ code: 'ARCHIVE_INVALID' });
  });

  it('is refused where it has too many members', async () => {
    const member = (await tarOf({ a: '' })).subarray(0, 512);
    const members = Array.from({ length: 20_001 }, (_value, index) => {
      const header = Buffer.from(member);
      header.write(String(index), 0, 'latin1');
      header.write(checksum(header), 148, 'latin1');
      return header;
    });
    expect(await failureOf(open(Buffer.concat(members)))).toMatchObject({ code: 'ARCHIVE_INVALID' });
  });

  it('cannot be read without zstd where it is compressed with that', async () => {
    const archive = Buffer.from('28b52ffd00000000', 'hex');
    const opening = open(archive, '', '', { zstd: new MemoryCompressor({ isThere: false }) });
    expect(await failureOf(opening)).toMatchObject({ code: 'PROGRAM_MISSING' });
  });

  it('is not opened where scratch cannot be written to', async () => {
    const opening = open(gzipSync(lower), '', '', { scratch: join(work, 'nowhere') });
    expect(await failureOf(opening)).toMatchObject({ code: 'ARGUMENT_INVALID' });
  });

  it('is not opened for whoever does not want it any more', async () => {
    const reason = new Error('enough');
    const opening = open(gzipSync(lower), '', '', { signal: AbortSignal.abort(reason) });
    expect(await failureOf(opening)).toBe(reason);
  });

  it('is refused where a directory is meant', async () => {
    const opening = openImage(`docker-archive:${work}`, { ...readOptions(), scratch: work });
    expect(await failureOf(opening)).toMatchObject({ code: 'IMAGE_INVALID' });
  });
});

/** Over a header with blanks where it stands (tar(5)). */
function checksum(header: Buffer): string {
  const sum = header
    .subarray(0, 512)
    .reduce((total, byte, index) => total + (index >= 148 && index < 156 ? 32 : byte), 0);
  return `${sum.toString(8).padStart(6, '0')}\0 `;
}
