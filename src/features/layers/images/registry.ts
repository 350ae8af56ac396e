/** Fetches images from registries. skopeo does it: it knows their ways of logging in, mirrors and signatures (containers-policy.json(5)), and asks for no daemon. */
import { spawn } from 'node:child_process';
import { PandoError } from '../../../core/errors.ts';
import { formatReference, type ImageReference } from '../../../core/layers/reference.ts';
import type { Platform } from './image-source.ts';

const PROGRAM = 'skopeo';
/** Of what it says, the end tells what went wrong. */
const LAST_WORDS_CHARACTERS_MAX = 2000;

export interface FetchOptions {
  readonly platform?: Platform | undefined;
  /** Also over plain HTTP, or TLS that nobody vouches for. */
  readonly insecure?: boolean | undefined;
  /** Directory for what it needs meanwhile. */
  readonly scratch: string;
  readonly signal: AbortSignal;
}

/**
 * Copies an image to `directory`, which it makes, as skopeo's `dir`: unlike its `oci`, that keeps manifest and blobs as the registry has them, and so their digests.
 * Rejects with `PROGRAM_MISSING`, or with `PROGRAM_FAILED` and what skopeo said at last.
 */
export async function fetchImage(reference: ImageReference, directory: string, options: FetchOptions): Promise<void> {
  const { platform, insecure, scratch, signal } = options;
  // skopeo takes no tag beside a digest, which says more
  const name = formatReference(reference.digest === null ? reference : { ...reference, tag: null });
  const words = ['--tmpdir', scratch];
  if (platform !== undefined) words.push('--override-os', platform.os, '--override-arch', platform.architecture);
  words.push('copy', '--quiet');
  if (insecure) words.push('--src-tls-verify=false');
  await run([...words, `docker://${name}`, `dir:${directory}`], name, signal);
}

async function run(words: readonly string[], name: string, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const child = spawn(PROGRAM, words, { stdio: ['ignore', 'ignore', 'pipe'], signal, killSignal: 'SIGKILL' });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = `${said}${text}`.slice(-LAST_WORDS_CHARACTERS_MAX);
  });
  const failure = await new Promise<NodeJS.ErrnoException | number | null>((resolve) => {
    let failed: NodeJS.ErrnoException | undefined;
    child.once('error', (error) => {
      failed = error;
      // One that never ran does not close
      if (child.pid === undefined) resolve(error);
    });
    child.once('close', (code) => resolve(failed ?? code));
  });
  signal.throwIfAborted();
  if (failure === 0) return;
  if (failure instanceof Error && failure.code === 'ENOENT') {
    throw new PandoError('PROGRAM_MISSING', `There is no skopeo to fetch ${name} with; install the package "skopeo".`);
  }
  const why = failure instanceof Error ? failure.message : lastWords(said);
  throw new PandoError(
    'PROGRAM_FAILED',
    `skopeo could not fetch ${name}: ${why || 'it did not say why'}; check the name, and whether its registry can be reached.`,
    { name, said },
  );
}

/** It logs as `time=… level=fatal msg="…"`. */
function lastWords(said: string): string {
  const line = said.trim().split('\n').at(-1) ?? '';
  const message = /msg="((?:[^"\\]|\\.)*)"/.exec(line)?.[1];
  return message?.replaceAll(/\\(["\\])/g, '$1') ?? line;
}
