import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type DiffId, digestOf } from '../../../../src/core/layers/digest.ts';
import type { ImageSource } from '../../../../src/features/layers/images/image-source.ts';
import { type OpenOptions, openImage } from '../../../../src/features/layers/images/open-image.ts';
import { thisPlatform } from '../../../../src/features/layers/images/platform.ts';
import {
  bytesOf,
  type FixtureDescriptor,
  failureOf,
  LAYER,
  LayoutFixture,
  layerOf,
  named,
  OCI,
  readOptions,
  tarOf,
  writeFiles,
} from './image-fixture.ts';

let lower: Buffer;
let upper: Buffer;
let work: string;
let layout: LayoutFixture;

beforeAll(async () => {
  lower = await tarOf({ 'etc/a': 'lower', noise: randomBytes(20_000) });
  upper = await tarOf({ 'etc/b': 'upper' });
});

beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), 'pando-layout-'));
  layout = new LayoutFixture();
});

afterEach(() => rm(work, { recursive: true }));

async function openLayout(name = '', options: Partial<OpenOptions> = {}): Promise<ImageSource> {
  const directory = await writeFiles(join(work, 'layout'), layout.files);
  return openImage(`oci:${directory}${name}`, { ...readOptions(), scratch: work, ...options });
}

function twoLayers(): FixtureDescriptor {
  return layout.image([layerOf(lower, gzipSync(lower), { mediaType: `${LAYER}+gzip` }), layerOf(upper)]);
}

describe('an image in a layout', () => {
  it('is opened with its layers as they were before compression, lowest first', async () => {
    const manifest = twoLayers();
    layout.index(manifest);
    const image = await openLayout();
    expect(image.manifest).toBe(manifest.digest);
    expect(image.config).toMatchObject({ ...thisPlatform(), diffIds: [digestOf(lower), digestOf(upper)] });
    expect(image.layers.map(({ diffId }) => diffId)).toEqual(image.config.diffIds);
    expect(image.layers.map(({ size }) => size)).toEqual([gzipSync(lower).length, upper.length]);
    const tars = await Promise.all(image.layers.map((layer) => bytesOf(layer.open())));
    expect(tars).toEqual([lower, upper]);
    expect(await bytesOf((image.layers[0] as ImageSource['layers'][0]).open())).toEqual(lower);
    await image.close();
  });

  it('is opened by its bare path, and needs no scratch', async () => {
    layout.index(twoLayers());
    const directory = await writeFiles(join(work, 'layout'), layout.files);
    const image = await openImage(directory, { ...readOptions(), scratch: join(work, 'nowhere') });
    expect(image.layers).toHaveLength(2);
    await image.close();
  });

  it.each(['docker', 'oci'])('may be as %s writes it', async (kind) => {
    const docker = 'application/vnd.docker';
    const [config, list, layer] =
      kind === 'oci'
        ? [`${OCI}.manifest.v1+json`, `${OCI}.index.v1+json`, `${LAYER}+gzip`]
        : [
            `${docker}.distribution.manifest.v2+json`,
            `${docker}.distribution.manifest.list.v2+json`,
            `${docker}.image.rootfs.diff.tar.gzip`,
          ];
    const manifest = layout.image([layerOf(lower, gzipSync(lower), { mediaType: layer })], {
      manifest: { mediaType: config },
    });
    const index = layout.nested([{ ...manifest, mediaType: config, platform: thisPlatform() }]);
    layout.index({ ...index, mediaType: list });
    expect((await openLayout()).manifest).toBe(manifest.digest);
  });

  it('tells by its bytes how a layer is compressed, whatever its manifest says', async () => {
    layout.index(
      layout.image([layerOf(lower, lower, { mediaType: `${LAYER}+gzip` }), layerOf(upper, gzipSync(upper))]),
    );
    const { layers } = await openLayout();
    expect(await Promise.all(layers.map((layer) => bytesOf(layer.open())))).toEqual([lower, upper]);
  });
});

describe('which image of a layout is meant', () => {
  let one: FixtureDescriptor;
  let other: FixtureDescriptor;

  beforeEach(() => {
    one = layout.image([layerOf(lower)]);
    other = layout.image([layerOf(upper)]);
  });

  it('is said by its name', async () => {
    layout.index(named(one, 'one'), named(other, 'registry:5000/other:1'));
    expect((await openLayout(':one')).manifest).toBe(one.digest);
    expect((await openLayout(':registry:5000/other:1')).manifest).toBe(other.digest);
  });

  it('is said by the name that containerd gave it', async () => {
    const annotations = { 'org.opencontainers.image.ref.name': '1', 'io.containerd.image.name': 'host/one:1' };
    layout.index({ ...one, annotations }, named(other, '2'));
    expect((await openLayout(':host/one:1')).manifest).toBe(one.digest);
    expect((await openLayout(':1')).manifest).toBe(one.digest);
  });

  it('has to be said where there are several, and the names are told', async () => {
    layout.index(named(one, 'one'), named(other, 'two'));
    const message = expect.stringContaining('one, two');
    expect(await failureOf(openLayout())).toMatchObject({ code: 'IMAGE_INVALID', message });
  });

  it('cannot be one that is not there, and the names are told', async () => {
    layout.index(named(one, 'one'), other);
    const message = expect.stringContaining('one, one without a name');
    expect(await failureOf(openLayout(':two'))).toMatchObject({ code: 'IMAGE_UNKNOWN', message });
  });
});

describe('an image for several platforms', () => {
  const FOR_BSD = { os: 'freebsd', architecture: 'riscv64' };
  let here: FixtureDescriptor;
  let there: FixtureDescriptor;

  beforeEach(() => {
    here = { ...layout.image([layerOf(lower)]), platform: thisPlatform() };
    there = { ...layout.image([layerOf(upper)], { config: FOR_BSD }), platform: FOR_BSD };
  });

  it('is that for this machine, or for the one that was asked for, in an index within an index', async () => {
    layout.index(named(layout.nested([there, layout.nested([here])]), 'one'));
    expect((await openLayout()).manifest).toBe(here.digest);
    expect((await openLayout(':one', { platform: FOR_BSD })).manifest).toBe(there.digest);
  });

  it('may be listed without an index of its own', async () => {
    layout.index(named(there, 'one'), named(here, 'one'));
    expect((await openLayout(':one')).manifest).toBe(here.digest);
  });

  it('is refused where there is none for this one, and the platforms are told', async () => {
    layout.index(layout.nested([there]));
    const message = expect.stringContaining('freebsd/riscv64');
    expect(await failureOf(openLayout())).toMatchObject({ code: 'IMAGE_INVALID', message });
  });

  it('is refused where an index does not tell them apart', async () => {
    const { platform: _here, ...one } = here;
    const { platform: _there, ...two } = there;
    layout.index(layout.nested([one, two]));
    expect(await failureOf(openLayout())).toMatchObject({ code: 'IMAGE_INVALID' });
  });

  it('is refused where nothing in an index is an image', async () => {
    layout.index(layout.nested([{ ...here, mediaType: 'text/plain' }]));
    expect(await failureOf(openLayout())).toMatchObject({ code: 'IMAGE_INVALID' });
  });

  it('is refused where the only one is for another than was asked for', async () => {
    layout.index(layout.image([layerOf(lower)]));
    expect(await failureOf(openLayout('', { platform: FOR_BSD }))).toMatchObject({ code: 'IMAGE_INVALID' });
  });

  it('is refused where its indexes never end', async () => {
    let nested = layout.nested([here]);
    for (let depth = 0; depth < 20; depth += 1) nested = layout.nested([nested]);
    layout.index(nested);
    expect(await failureOf(openLayout())).toMatchObject({ code: 'IMAGE_INVALID' });
  });
});

describe('an image that is not what it was said to be', () => {
  const blobOf = ({ digest }: { digest: string }) => `blobs/${digest.replace(':', '/')}`;

  it.each(['manifest', 'config', 'size of a layer'])('is refused at once: its %s', async (what) => {
    const layer = layerOf(lower, lower, what === 'size of a layer' ? { stored: Buffer.concat([lower, upper]) } : {});
    const manifest = layout.image([layer]);
    layout.index(manifest);
    const text = String(layout.files[blobOf(manifest)]);
    if (what === 'manifest') layout.files[blobOf(manifest)] = text.replace('"layers"', '"LAYERS"');
    const config = blobOf(JSON.parse(text).config);
    if (what === 'config') layout.files[config] = String(layout.files[config]).replace(/[0-9a-f]"]/, '"]]');
    expect(await failureOf(openLayout())).toMatchObject({ code: 'DIGEST_MISMATCH' });
  });

  it.each([
    ['plain', lowerAs((tar) => tar)],
    ['compressed', lowerAs(gzipSync)],
  ])('is refused when the layer was read: the blob of a %s layer', async (_kind, blob) => {
    const bytes = blob();
    const stored = Buffer.from(bytes);
    stored[1000] = (stored[1000] ?? 0) ^ 1;
    layout.index(layout.image([layerOf(lower, bytes, { stored })]));
    const { layers } = await openLayout();
    for (const layer of layers) expect(await failureOf(layer.open())).toMatchObject({ code: 'DIGEST_MISMATCH' });
  });

  it('is refused when the layer was read: its DiffID', async () => {
    layout.index(layout.image([layerOf(lower, gzipSync(lower), { diffId: digestOf(upper) as DiffId })]));
    const { layers } = await openLayout();
    for (const layer of layers) expect(await failureOf(layer.open())).toMatchObject({ code: 'DIGEST_MISMATCH' });
  });

  it('is refused when the layer was read: one that was cut off before it was stored', async () => {
    layout.index(layout.image([layerOf(lower, gzipSync(lower).subarray(0, 1000))]));
    const { layers } = await openLayout();
    for (const layer of layers) expect(await failureOf(layer.open())).toMatchObject({ code: 'ARCHIVE_INVALID' });
  });

  function lowerAs(make: (tar: Buffer) => Buffer): () => Buffer {
    return () => make(lower);
  }
});

describe('an image that cannot be used', () => {
  const EMPTY = layerOf(Buffer.alloc(1024));

  it.each([
    ['with too many layers', () => layout.image(Array(129).fill(EMPTY))],
    ['whose config has fewer layers', () => layout.image([EMPTY], { config: configWithout() })],
    [
      'with a layer that lies elsewhere',
      () => layout.image([{ ...EMPTY, mediaType: `${OCI}.layer.nondistributable.v1.tar` }]),
    ],
    [
      'with a foreign layer',
      () => layout.image([{ ...EMPTY, mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip' }]),
    ],
    [
      'with a layer of an unknown kind',
      () => layout.image([{ ...EMPTY, mediaType: 'application/vnd.example.squashfs' }]),
    ],
    [
      'that is no image',
      () => layout.image([], { manifest: { config: layout.blob('application/vnd.example', '{}') } }),
    ],
    ['with a config that is too long', () => layout.image([EMPTY], { config: { padding: 'x'.repeat(128 * 1024) } })],
    ['with a manifest that is an index as well', () => layout.image([EMPTY], { manifest: { manifests: [] } })],
    [
      'with a manifest that says it is an index',
      () => layout.image([EMPTY], { manifest: { mediaType: `${OCI}.index.v1+json` } }),
    ],
    [
      'with a manifest that is too long',
      () => layout.image([EMPTY], { manifest: { padding: 'x'.repeat(4 * 1024 * 1024) } }),
    ],
    ['with a manifest of another version', () => layout.image([EMPTY], { manifest: { schemaVersion: 1 } })],
    ['with a manifest that is not JSON', () => layout.blob(`${OCI}.manifest.v1+json`, 'secret')],
    ['with a blob that is missing', () => without(layout.image([layerOf(upper)]), upper)],
    ['without a manifest', () => without(layout.image([EMPTY]))],
    ['with a digest of another kind', () => ({ ...layout.image([EMPTY]), digest: `sha512:${'0'.repeat(128)}` })],
    ['with a digest that leads elsewhere', () => ({ ...layout.image([EMPTY]), digest: 'sha256:../../index.json' })],
  ])('is refused: one %s', async (_what, make) => {
    layout.index(make());
    const error = await failureOf(openLayout());
    expect(error).toMatchObject({ code: 'IMAGE_INVALID', message: expect.not.stringContaining('secret') });
  });

  it.each([
    ['oci-layout', '{"imageLayoutVersion":"2.0.0"}'],
    ['oci-layout', ''],
    ['index.json', '{"schemaVersion":2,"manifests":[],"layers":[]}'],
    ['index.json', '{"schemaVersion":2,"manifests":[]}'],
    ['index.json', '{"schemaVersion":2,"mediaType":"text/plain","manifests":[]}'],
    ['index.json', ' '.repeat(4 * 1024 * 1024 + 1)],
  ])('is refused: one whose %s is wrong', async (name, text) => {
    layout.index(layout.image([EMPTY])).files[name] = text;
    expect(await failureOf(openLayout())).toMatchObject({ code: 'IMAGE_INVALID' });
  });

  it('is refused: a directory that is none', async () => {
    expect(await failureOf(openImage(work, { ...readOptions(), scratch: work }))).toMatchObject({
      code: 'IMAGE_INVALID',
    });
  });

  it('is refused: a file where a directory should be', async () => {
    await writeFile(join(work, 'file'), '');
    const opening = openImage(`oci:${join(work, 'file')}`, { ...readOptions(), scratch: work });
    expect(await failureOf(opening)).toMatchObject({ code: 'IMAGE_INVALID' });
  });

  it.each(['oci:', 'docker-archive:', 'docker-daemon:', ''])(
    'is unknown where there is nothing: %s',
    async (prefix) => {
      const opening = openImage(`${prefix}${join(work, 'nothing')}`, { ...readOptions(), scratch: work });
      expect(await failureOf(opening)).toMatchObject({ code: 'IMAGE_UNKNOWN' });
    },
  );

  it('is not opened for whoever does not want it any more', async () => {
    layout.index(twoLayers());
    const abort = new AbortController();
    const { layers } = await openLayout('', { signal: abort.signal });
    const reason = new Error('enough');
    abort.abort(reason);
    for (const layer of layers) expect(await failureOf(layer.open())).toBe(reason);
    expect(await failureOf(openLayout('', { signal: abort.signal }))).toBe(reason);
    expect(await readdir(work)).toEqual(['layout']);
  });

  function configWithout() {
    return { rootfs: { type: 'layers', diff_ids: [] } };
  }

  function without(manifest: FixtureDescriptor, bytes?: Uint8Array): FixtureDescriptor {
    const digest = bytes === undefined ? manifest.digest : digestOf(bytes);
    delete layout.files[`blobs/${digest.replace(':', '/')}`];
    return manifest;
  }
});
