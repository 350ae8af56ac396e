import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../../../src/core/errors.ts';
import { type DiffId, digestOf } from '../../../../src/core/layers/digest.ts';
import { type WrittenImage, writeImageLayout } from '../../../../src/features/layers/images/image-layout.ts';
import { openImage } from '../../../../src/features/layers/images/open-image.ts';
import { bytesOf, configOf, failureOf, readOptions, tarOf } from './image-fixture.ts';

const FORMS = [{ name: 'layout' }, { name: 'image.tar' }];

let lower: Buffer;
let upper: Buffer;
let work: string;
let signal: AbortSignal;

beforeAll(async () => {
  lower = await tarOf({ 'etc/a': 'lower' });
  upper = await tarOf({ 'etc/b': 'upper'.repeat(100_000) });
});

beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), 'pando-layout-'));
  signal = new AbortController().signal;
});

afterEach(() => rm(work, { recursive: true }));

function layer(tar: Buffer, diffId: string | null = null): WrittenImage['layers'][number] {
  return {
    diffId: diffId as DiffId | null,
    open: async function* () {
      for (let start = 0; start < tar.length; start += 10_000) yield tar.subarray(start, start + 10_000);
    },
  };
}

function image(more: Partial<WrittenImage> = {}): WrittenImage {
  const layers = [layer(lower, digestOf(lower)), layer(upper)];
  return { reference: 'registry.example/one:1', config: configOf([]), layers, ...more };
}

describe.each(FORMS)('an image that is written as $name', ({ name }) => {
  const target = () => join(work, name);

  it('is read as it was written, and its config tells of what was written', async () => {
    const { manifest } = await writeImageLayout(target(), image(), signal);
    const read = await openImage(target(), { ...readOptions(), scratch: work });
    expect(read.manifest).toBe(manifest);
    expect(read.config.diffIds).toEqual([digestOf(lower), digestOf(upper)]);
    const tars = await Promise.all(read.layers.map((one) => bytesOf(one.open())));
    expect(tars.map(digestOf)).toEqual([lower, upper].map(digestOf));
    expect(await readdir(work)).toEqual([name]);
  });

  it('is called by its name, as a whole or by its tag', async () => {
    const { manifest } = await writeImageLayout(target(), image(), signal);
    const transport = name.endsWith('.tar') ? 'oci-archive' : 'oci';
    for (const reference of ['registry.example/one:1', '1']) {
      const read = await openImage(`${transport}:${target()}:${reference}`, { ...readOptions(), scratch: work });
      expect(read.manifest).toBe(manifest);
    }
  });

  it('may have no name, no layers, or the same one twice', async () => {
    const twice = [layer(lower), layer(lower)];
    await writeImageLayout(target(), image({ reference: null, layers: twice }), signal);
    const read = await openImage(target(), { ...readOptions(), scratch: work });
    expect(read.config.diffIds).toEqual([digestOf(lower), digestOf(lower)]);
    await rm(target(), { recursive: true });
    await writeImageLayout(target(), image({ layers: [] }), signal);
    expect((await openImage(target(), { ...readOptions(), scratch: work })).layers).toEqual([]);
  });

  it('takes no place that is taken', async () => {
    await writeFile(target(), 'mine');
    expect(await failureOf(writeImageLayout(target(), image(), signal))).toMatchObject({ code: 'ARGUMENT_INVALID' });
    expect(await readFile(target(), 'utf8')).toBe('mine');
    expect(await readdir(work)).toEqual([name]);
  });

  it('takes no place that was taken meanwhile', async () => {
    const slow: WrittenImage['layers'][number] = {
      diffId: null,
      open: async function* () {
        await mkdir(target());
        yield lower;
      },
    };
    const writing = writeImageLayout(target(), image({ layers: [slow] }), signal);
    expect(await failureOf(writing)).toMatchObject({ code: 'ARGUMENT_INVALID' });
    expect(await readdir(work)).toEqual([name]);
    expect(await readdir(target())).toEqual([]);
  });

  it('is not written where there is no such directory', async () => {
    const writing = writeImageLayout(join(work, 'nowhere', name), image(), signal);
    expect(await failureOf(writing)).toMatchObject({ code: 'ARGUMENT_INVALID' });
  });

  const failing = (error: unknown): WrittenImage['layers'][number] => ({
    diffId: null,
    open: async function* () {
      yield lower;
      throw error;
    },
  });
  const lost = new PandoError('LAYER_UNKNOWN', 'The layer is gone.');

  it.each([
    ['a layer is another', () => ({ layers: [layer(lower, digestOf(upper))] }), 'DIGEST_MISMATCH'],
    ['a layer cannot be read', () => ({ layers: [layer(lower), failing(lost)] }), 'LAYER_UNKNOWN'],
    ['a layer fails in a way that has no name', () => ({ layers: [failing(new Error('odd'))] }), 'ARGUMENT_INVALID'],
    ['its config is none', () => ({ config: '{}' }), 'IMAGE_INVALID'],
    ['its name is none', () => ({ reference: 'Not a name' }), 'NAME_INVALID'],
  ])('leaves nothing where %s', async (_what, more, code) => {
    const writing = writeImageLayout(target(), image(more()), signal);
    expect(await failureOf(writing)).toMatchObject({ code });
    expect(await readdir(work)).toEqual([]);
  });

  it('leaves nothing where nobody wants it any more', async () => {
    const abort = new AbortController();
    const reason = new Error('enough');
    const slow: WrittenImage['layers'][number] = {
      diffId: null,
      open: async function* () {
        yield lower;
        abort.abort(reason);
        yield lower;
      },
    };
    expect(await failureOf(writeImageLayout(target(), image({ layers: [slow] }), abort.signal))).toBe(reason);
    expect(await readdir(work)).toEqual([]);
  });
});

describe('what is written', () => {
  it('has the same bytes each time', async () => {
    const annotations = { b: '2', a: '1' };
    await writeImageLayout(join(work, 'one.tar'), image({ annotations }), signal);
    await writeImageLayout(join(work, 'two.tar'), image({ annotations: { a: '1', b: '2' } }), signal);
    const [one, two] = await Promise.all(['one', 'two'].map((name) => readFile(join(work, `${name}.tar`))));
    expect(one && digestOf(one)).toBe(two && digestOf(two));
  });

  it('is the same in a directory and in a tar of it', async () => {
    await writeImageLayout(join(work, 'layout'), image(), signal);
    await writeImageLayout(join(work, 'image.tar'), image(), signal);
    await mkdir(join(work, 'unpacked'));
    await execa('tar', ['-xf', join(work, 'image.tar'), '-C', join(work, 'unpacked')]);
    await execa('diff', ['-r', join(work, 'layout'), join(work, 'unpacked')]);
  });

  it('has the names and types that others look for', async () => {
    const annotations = { 'org.opencontainers.image.source': 'here' };
    const { manifest } = await writeImageLayout(join(work, 'layout'), image({ annotations }), signal);
    const [index, text] = await Promise.all(
      ['index.json', `blobs/${manifest.replace(':', '/')}`].map((name) => readFile(join(work, 'layout', name), 'utf8')),
    );
    expect(JSON.parse(index ?? '').manifests).toEqual([
      {
        mediaType: 'application/vnd.oci.image.manifest.v1+json',
        digest: manifest,
        size: text?.length,
        annotations: {
          'io.containerd.image.name': 'registry.example/one:1',
          'org.opencontainers.image.ref.name': '1',
        },
      },
    ]);
    expect(JSON.parse(text ?? '')).toMatchObject({
      annotations,
      layers: [
        { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: digestOf(lower), size: lower.length },
        { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: digestOf(upper), size: upper.length },
      ],
    });
  });
});
