/** Images as they come from a real registry and from what others write, and as others read them. */
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { installPackages } from '../../peers/provision/debian-packages.ts';
import { digestOf } from '../../src/core/layers/digest.ts';
import { writeImageLayout } from '../../src/features/layers/images/image-layout.ts';
import type { ImageSource } from '../../src/features/layers/images/image-source.ts';
import { type OpenOptions, openImage } from '../../src/features/layers/images/open-image.ts';
import { thisPlatform } from '../../src/features/layers/images/platform.ts';
import { Zstd } from '../../src/transfer/compression/zstd.ts';
import {
  bytesOf,
  failureOf,
  LAYER,
  LayoutFixture,
  layerOf,
  tarOf,
  writeFiles,
} from '../features/layers/images/image-fixture.ts';
import { addressOf, type Registry, startRegistry, stopped } from './local-registry.ts';

let work: string;
let scratch: string;
let registry: Registry;

beforeAll(async () => {
  expect(await installPackages(['docker-registry', 'skopeo', 'umoci', 'zstd'])).toBeNull();
  work = await mkdtemp(join(tmpdir(), 'pando-images-'));
  registry = await startRegistry(join(work, 'registry'));
  await makeImage(join(work, 'made'));
});

afterAll(async () => {
  await registry?.stop();
  await rm(work, { recursive: true });
});

beforeEach(async () => {
  scratch = await mkdtemp(join(work, 'scratch-'));
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(scratch, { recursive: true });
});

/** An image of two layers, `made:one`. */
async function makeImage(layout: string): Promise<void> {
  const image = `${layout}:one`;
  const bundle = `${layout}-bundle`;
  await execa('umoci', ['init', '--layout', layout]);
  await execa('umoci', ['new', '--image', image]);
  for (const [name, text] of [
    ['lower', 'from below'],
    ['upper', 'from above'],
  ] as const) {
    await execa('umoci', ['unpack', '--rootless', '--image', image, bundle]);
    await writeFile(join(bundle, 'rootfs', name), text);
    await execa('umoci', ['repack', '--image', image, bundle]);
    await rm(bundle, { recursive: true });
  }
}

function open(source: string, options: Partial<OpenOptions> = {}): Promise<ImageSource> {
  return openImage(source, { zstd: new Zstd(), signal: new AbortController().signal, scratch, ...options });
}

/** The names of files in the layers of an image, lowest first. */
async function namesIn(image: ImageSource): Promise<string[][]> {
  const names: string[][] = [];
  for (const layer of image.layers) {
    const { stdout } = await execa('tar', ['-t'], { input: await bytesOf(layer.open()) });
    names.push(stdout.split('\n').filter((name) => !/^\.$|\/$/.test(name)));
  }
  return names;
}

describe('an image in a registry', () => {
  it.each([
    ['OCI', 'oci', []],
    ['Docker', 'v2s2', []],
    ['zstd', 'oci', ['--dest-compress-format', 'zstd']],
  ])('is opened as it is there (%s), and closing leaves nothing', async (kind, format, words) => {
    const name = `docker://${registry.address}/made/image:${kind}`;
    const insecure = '--dest-tls-verify=false';
    await execa('skopeo', ['copy', insecure, '--format', format, ...words, `oci:${join(work, 'made')}:one`, name]);
    const { stdout } = await execa('skopeo', ['inspect', '--raw', '--tls-verify=false', name], {
      stripFinalNewline: false,
    });

    const image = await open(name, { insecure: true });
    expect(image.manifest).toBe(digestOf(stdout));
    expect(image.config).toMatchObject(thisPlatform());
    expect(await namesIn(image)).toEqual([['lower'], ['upper']]);
    await image.close();
    expect(await readdir(scratch)).toEqual([]);

    const pinned = await open(`${name}@${image.manifest}`, { insecure: true });
    expect(pinned.manifest).toBe(image.manifest);
    await pinned.close();
  });

  it('is that for the platform that was asked for, where there are several', async () => {
    const there = { os: 'freebsd', architecture: 'riscv64' };
    const layout = new LayoutFixture();
    const layer = layerOf(await tarOf({ file: 'text' }));
    const one = { ...layout.image([layer]), platform: thisPlatform() };
    const other = { ...layout.image([layer], { config: there }), platform: there };
    await writeFiles(join(scratch, 'layout'), layout.index(layout.nested([one, other])).files);
    const name = `docker://${registry.address}/made/several:1`;
    const words = ['--all', '--preserve-digests', '--dest-tls-verify=false'];
    await execa('skopeo', ['copy', ...words, `oci:${join(scratch, 'layout')}`, name]);
    for (const { platform, digest } of [one, other]) {
      const image = await open(name, { insecure: true, ...(platform === there && { platform: there }) });
      expect(image.manifest).toBe(digest);
      await image.close();
    }
  });

  it('is refused where it is for another platform than was asked for', async () => {
    const name = `docker://${registry.address}/made/image:OCI`;
    const platform = { os: 'freebsd', architecture: 'riscv64' };
    expect(await failureOf(open(name, { insecure: true, platform }))).toMatchObject({ code: 'IMAGE_INVALID' });
    expect(await readdir(scratch)).toEqual([]);
  });

  it('is not fetched where it is not, nor without TLS unless that was said, and skopeo tells why', async () => {
    const missing = await failureOf(open(`docker://${registry.address}/made/other:1`, { insecure: true }));
    expect(missing).toMatchObject({ code: 'PROGRAM_FAILED', message: expect.stringContaining('unknown') });
    const plain = await failureOf(open(`docker://${registry.address}/made/image:OCI`));
    expect(plain).toMatchObject({ code: 'PROGRAM_FAILED', message: expect.stringContaining('HTTPS client') });
    expect(await readdir(scratch)).toEqual([]);
  });

  it('cannot be fetched without skopeo', async () => {
    vi.stubEnv('PATH', scratch);
    const error = await failureOf(open(`docker://${registry.address}/made/image:OCI`, { insecure: true }));
    expect(error).toMatchObject({ code: 'PROGRAM_MISSING', message: expect.stringContaining('package "skopeo"') });
  });

  it('is not waited for when nobody wants it any more', async () => {
    // A registry that never answers
    const silent = spawn(process.execPath, ['-e', SILENT], { stdio: ['ignore', 'ignore', 'pipe'] });
    try {
      const address = await addressOf(silent);
      const abort = new AbortController();
      const reason = new Error('enough');
      const opening = open(`docker://${address}/never`, { insecure: true, signal: abort.signal });
      silent.stderr.once('data', () => abort.abort(reason));
      expect(await failureOf(opening)).toBe(reason);
      expect(await readdir(scratch)).toEqual([]);
    } finally {
      await stopped(silent);
    }
  });
});

/** Says where it listens, and when somebody came. */
const SILENT = `
  const server = require('node:net').createServer(() => console.error('somebody came'));
  server.listen(0, '127.0.0.1', () => console.error('listening on 127.0.0.1:' + server.address().port));
`;

describe('an image that others wrote', () => {
  it.each(['oci', 'oci-archive', 'docker-archive'])('is opened: %s, by skopeo', async (transport) => {
    const copy = join(scratch, 'copy');
    const named = transport === 'docker-archive' ? `${copy}:registry.example/made:one` : `${copy}:one`;
    await execa('skopeo', ['copy', `oci:${join(work, 'made')}:one`, `${transport}:${named}`]);
    for (const source of [`${transport}:${named}`, copy]) {
      const image = await open(source);
      expect(await namesIn(image)).toEqual([['lower'], ['upper']]);
      await image.close();
    }
  });

  it('is opened: an archive that was compressed with zstd', async () => {
    const archive = join(scratch, 'copy');
    await execa('skopeo', ['copy', `oci:${join(work, 'made')}:one`, `oci-archive:${archive}`]);
    await execa('zstd', ['--quiet', archive]);
    const image = await open(`${archive}.zst`);
    expect(await namesIn(image)).toEqual([['lower'], ['upper']]);
    await image.close();
    expect(await readdir(scratch)).toHaveLength(2);
  });

  it('is refused: a layer that was compressed with zstd and cut off', async () => {
    const tar = await tarOf({ noise: await readFile(process.execPath).then((bytes) => bytes.subarray(0, 500_000)) });
    const whole = await execa('zstd', ['--stdout', '--quiet'], { input: tar, encoding: 'buffer' });
    const layout = new LayoutFixture();
    const blob = whole.stdout.subarray(0, 50_000);
    layout.index(layout.image([layerOf(tar, blob, { mediaType: `${LAYER}+zstd` })]));
    await writeFiles(scratch, layout.files);
    const { layers } = await open(scratch);
    for (const layer of layers) expect(await failureOf(layer.open())).toMatchObject({ code: 'ARCHIVE_INVALID' });
  });
});

describe('an image that was written', () => {
  async function written(target: string): Promise<{ manifest: string; diffIds: readonly string[] }> {
    const image = await open(`oci:${join(work, 'made')}:one`);
    const { manifest } = await writeImageLayout(
      target,
      { reference: 'registry.example/made:two', config: image.config.text, layers: image.layers },
      new AbortController().signal,
    );
    return { manifest, diffIds: image.config.diffIds };
  }

  it.each(['oci', 'oci-archive'])('is read by skopeo: %s', async (transport) => {
    const target = join(scratch, transport === 'oci' ? 'layout' : 'image.tar');
    const { manifest, diffIds } = await written(target);
    const { stdout } = await execa('skopeo', ['inspect', `${transport}:${target}:two`]);
    const inspected = JSON.parse(stdout);
    expect(inspected.Digest).toBe(manifest);
    expect(inspected.Layers).toEqual(diffIds);
  });

  it('is unpacked by umoci', async () => {
    const target = join(scratch, 'layout');
    await written(target);
    await execa('umoci', ['unpack', '--rootless', '--image', `${target}:two`, join(scratch, 'bundle')]);
    const texts = ['lower', 'upper'].map((name) => readFile(join(scratch, 'bundle', 'rootfs', name), 'utf8'));
    expect(await Promise.all(texts)).toEqual(['from below', 'from above']);
  });

  it('is taken by a registry, and comes back as it was', async () => {
    const target = join(scratch, 'image.tar');
    const { manifest } = await written(target);
    const name = `docker://${registry.address}/written:two`;
    const words = ['--preserve-digests', '--dest-tls-verify=false'];
    await execa('skopeo', ['copy', ...words, `oci-archive:${target}`, name]);
    const image = await open(name, { insecure: true });
    expect(image.manifest).toBe(manifest);
    await image.close();
  });
});
