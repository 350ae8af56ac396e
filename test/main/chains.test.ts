/** How the streams of a mirror are made: chosen with the first one, kept ever after, raw for what is encrypted. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RelativeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { PLAIN_STREAM, RAW_STREAM, STREAM_PROPERTY, type StreamFlags } from '../../src/core/stream-flags.ts';
import type { MemoryZfs } from '../../src/zfs/memory/memory-zfs.ts';
import { at, dataset, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from './memory-world.ts';

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;
/** What alpha's ZFS was told to send, word by word. */
let sent: (readonly string[])[];
let alphaCan: { streamFlags: StreamFlags };

beforeEach(async () => {
  sent = [];
  alphaCan = { streamFlags: RAW_STREAM };
  world = new MemoryWorld();
  alpha = await world.start('alpha', undefined, {
    capabilities: alphaCan,
    onCommand: (command) => void (command[1] === 'send' && sent.push(command.slice(2))),
  });
  const { capabilities } = alpha.zfs;
  const bound = capabilities.bind(alpha.zfs);
  alpha.zfs.capabilities = async () => ({ ...(await bound()), ...alphaCan });
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.create(dataset('alpha/images/plain'));
  alpha.zfs.createEncrypted('alpha/images/secret');
  alpha.zfs.write('alpha/images/secret', 'diary', 'nobody else reads this');
  await alpha.zfs.snapshot(['', '/plain', '/secret'].map((name) => at(`alpha/images${name}`, '1')));
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
});

afterEach(() => world.stop());

async function mirrorTo(name: string, streamFlags: StreamFlags = RAW_STREAM): Promise<WorldNode> {
  const node = await world.start(name, undefined, { capabilities: { streamFlags } });
  await introduce(alpha, node);
  const mirror = { tree: IMAGES, from: alpha.node.id, root: dataset(`${name}/copy`), ...EVERYTHING };
  await node.node.mirrors.add(mirror);
  return node;
}

async function change(name: string, snapshot: string): Promise<void> {
  alpha.zfs.write(`alpha/images/${name}`, `file-${snapshot}`, snapshot);
  await alpha.zfs.snapshot([at(`alpha/images/${name}`, snapshot)]);
}

async function chainOn(zfs: MemoryZfs, name: string): Promise<string | undefined> {
  const [listed] = await zfs.listOnly([dataset(name)]);
  return listed?.properties[STREAM_PROPERTY];
}

async function failures(node: WorldNode): Promise<string[]> {
  const { steps } = await syncImages(node);
  return steps.flatMap(({ outcome }) => (outcome.result === 'failed' ? [outcome.error.code] : []));
}

describe('a mirror of what is encrypted', () => {
  it('is received raw, with its key loaded at neither end, and follows clones and increments so', async () => {
    beta = await mirrorTo('beta');
    await alpha.zfs.clone(at('alpha/images/secret', '1'), dataset('alpha/images/copy-of-secret'));
    await change('copy-of-secret', 'c');
    alpha.zfs.setKeyLoaded('alpha/images/secret', false);
    expect(await failures(beta)).toEqual([]);
    alpha.zfs.setKeyLoaded('alpha/images/secret', true);
    await change('secret', '2');
    await change('copy-of-secret', 'd');
    alpha.zfs.setKeyLoaded('alpha/images/secret', false);
    expect(await failures(beta)).toEqual([]);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
    for (const name of ['beta/copy/secret', 'beta/copy/copy-of-secret']) {
      expect(await chainOn(beta.zfs, name)).toBe('wcLe');
      expect(() => beta.zfs.contentsOf(name)).toThrow();
    }
    beta.zfs.setKeyLoaded('beta/copy/secret', true);
    expect(beta.zfs.read('beta/copy/copy-of-secret', 'file-d')).toBe('d');
  });

  it('is refused before a byte is sent where one end cannot do that, and the rest comes', async () => {
    const gamma = await mirrorTo('gamma', { ...RAW_STREAM, raw: false });
    expect(await failures(gamma)).toContain('TRANSFER_REFUSED');
    expect(sent.filter((words) => words.join(' ').includes('secret'))).toEqual([]);
    await gamma.node.mirrors.remove(IMAGES);
    await gamma.node.mirrors.add({
      ...{ tree: IMAGES, from: alpha.node.id, root: dataset('gamma/copy') },
      ...EVERYTHING,
      only: ['plain'],
    });
    expect(await failures(gamma)).toEqual([]);
    expect(await chainOn(gamma.zfs, 'gamma/copy/plain')).toBe('cLe');
  });

  it('keeps its chain when what diverged is moved out of the way', async () => {
    beta = await mirrorTo('beta');
    await syncImages(beta);
    await beta.zfs.snapshot([at('beta/copy/secret', 'mine')]);
    await beta.node.verifier.verify(IMAGES);
    await change('secret', '2');
    expect(await failures(beta)).toEqual([]);
    expect(await chainOn(beta.zfs, 'beta/copy/secret')).toBe('wcLe');
    await change('secret', '3');
    expect(await failures(beta)).toEqual([]);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
  });
});

describe('a chain', () => {
  it('is begun with what both ends can do, and goes on so when they could do more', async () => {
    alphaCan.streamFlags = { ...PLAIN_STREAM, compressed: true };
    beta = await mirrorTo('beta');
    await beta.node.mirrors.remove(IMAGES);
    const only = { ...EVERYTHING, only: ['plain'] };
    await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...only });
    expect(await failures(beta)).toEqual([]);
    alphaCan.streamFlags = RAW_STREAM;
    await change('plain', '2');
    expect(await failures(beta)).toEqual([]);
    expect(sent.at(-1)).toEqual(['-c', 'alpha/images/plain@2']);
    expect(await chainOn(beta.zfs, 'beta/copy/plain')).toBe('c');
  });

  it('is refused before a byte is sent when its flags cannot be had any more', async () => {
    beta = await mirrorTo('beta');
    await syncImages(beta);
    sent = [];
    alphaCan.streamFlags = { ...RAW_STREAM, largeBlocks: false };
    await change('plain', '2');
    expect(await failures(beta)).toEqual(['TRANSFER_REFUSED']);
    expect(sent).toEqual([]);
    alphaCan.streamFlags = RAW_STREAM;
    expect(await failures(beta)).toEqual([]);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
  });

  it('that is not raw is never continued with what is encrypted by now', async () => {
    beta = await mirrorTo('beta');
    await syncImages(beta);
    await beta.zfs.setProperties([dataset('beta/copy/secret')], { [STREAM_PROPERTY]: 'cLe' });
    // Which looks at the tree
    await beta.node.verifier.verify(IMAGES);
    sent = [];
    await change('secret', '2');
    expect(await failures(beta)).toEqual(['TRANSFER_REFUSED']);
    expect(sent).toEqual([]);
    expect(beta.node.trees.graph(IMAGES).named('secret' as RelativeName)?.snapshots).toHaveLength(1);
  });
});
