/** Images for tests: made file by file, so that each may be wrong. */
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { type DiffId, digestOf } from '../../../../src/core/layers/digest.ts';
import { thisPlatform } from '../../../../src/features/layers/images/platform.ts';
import { MemoryCompressor } from '../../../../src/transfer/compression/memory-compressor.ts';

export const OCI = 'application/vnd.oci.image';
export const LAYER = `${OCI}.layer.v1.tar`;
const { os, architecture } = thisPlatform();

export type Content = string | Uint8Array | { readonly linkTo: string };

export interface FixtureLayer {
  readonly blob: Uint8Array;
  readonly diffId: DiffId;
  readonly mediaType?: string;
  /** What is stored instead of the blob. */
  readonly stored?: Uint8Array;
}

export interface FixtureDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: object;
  readonly annotations?: object;
}

/** What every way to open an image is given; nothing here is compressed with zstd. */
export function readOptions() {
  return { zstd: new MemoryCompressor(), signal: new AbortController().signal };
}

export function layerOf(tar: Uint8Array, blob = tar, more: Partial<FixtureLayer> = {}): FixtureLayer {
  return { blob, diffId: digestOf(tar) as DiffId, ...more };
}

export function configOf(diffIds: readonly string[], more: object = {}): string {
  return JSON.stringify({ architecture, os, rootfs: { type: 'layers', diff_ids: diffIds }, ...more });
}

/** The files of an image layout. */
export class LayoutFixture {
  readonly files: Record<string, Content> = { 'oci-layout': '{"imageLayoutVersion":"1.0.0"}' };

  blob(mediaType: string, bytes: string | Uint8Array, stored = bytes): FixtureDescriptor {
    const digest = digestOf(bytes);
    this.files[`blobs/${digest.replace(':', '/')}`] = stored;
    return { mediaType, digest, size: Buffer.byteLength(bytes) };
  }

  /** An image of these layers; `config` and `manifest` replace fields of either. */
  image(layers: readonly FixtureLayer[], more: { readonly config?: object; readonly manifest?: object } = {}) {
    const text = configOf(
      layers.map(({ diffId }) => diffId),
      more.config,
    );
    const manifest = {
      schemaVersion: 2,
      config: this.blob(`${OCI}.config.v1+json`, text),
      layers: layers.map(({ blob, mediaType = LAYER, stored }) => this.blob(mediaType, blob, stored)),
      ...more.manifest,
    };
    return this.blob(`${OCI}.manifest.v1+json`, JSON.stringify(manifest));
  }

  nested(manifests: readonly FixtureDescriptor[]): FixtureDescriptor {
    return this.blob(`${OCI}.index.v1+json`, JSON.stringify({ schemaVersion: 2, manifests }));
  }

  index(...manifests: readonly FixtureDescriptor[]): this {
    this.files['index.json'] = JSON.stringify({ schemaVersion: 2, manifests });
    return this;
  }
}

export function named(descriptor: FixtureDescriptor, name: string): FixtureDescriptor {
  return { ...descriptor, annotations: { 'org.opencontainers.image.ref.name': name } };
}

export async function writeFiles(directory: string, files: Readonly<Record<string, Content>>): Promise<string> {
  for (const [name, content] of Object.entries(files)) {
    const path = join(directory, name);
    await mkdir(dirname(path), { recursive: true });
    if (typeof content === 'object' && 'linkTo' in content) await symlink(content.linkTo, path);
    else await writeFile(path, content);
  }
  return directory;
}

/** A tar of files, as GNU tar writes it. */
export async function tarOf(files: Readonly<Record<string, Content>>, format = 'gnu'): Promise<Buffer> {
  const work = await mkdtemp(join(tmpdir(), 'pando-tar-'));
  try {
    const tree = await writeFiles(join(work, 'tree'), files);
    const tar = join(work, 'tar');
    await execa('tar', [`--format=${format}`, '-C', tree, '-cf', tar, ...new Set(Object.keys(files).map(topOf))]);
    return await readFile(tar);
  } finally {
    await rm(work, { recursive: true });
  }
}

function topOf(name: string): string {
  return name.split('/')[0] ?? name;
}

export async function bytesOf(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

/** What a promise or an iterable fails with; the test fails where it does not. */
export async function failureOf(doing: Promise<unknown> | AsyncIterable<Uint8Array>): Promise<unknown> {
  try {
    await (Symbol.asyncIterator in doing ? bytesOf(doing) : doing);
  } catch (error) {
    return error;
  }
  throw new Error('It did not fail.');
}
