/** What whoever starts commands does, whichever process does it. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { Child, ChildEnding, Starter } from '../../../src/zfs/cli/children/child.ts';
import { detachFromNode, endWithFarEnd } from '../../../src/zfs/handover.ts';

const MIB = 1024 * 1024;
const STDERR_BYTES_MAX = 64 * 1024;

/** Two ends of a connection: one for a child, unread, and the far one. */
export async function connection(
  options: { readonly allowHalfOpen: boolean } = { allowHalfOpen: true },
): Promise<{ readonly end: Socket; readonly far: Socket }> {
  const server = createServer({ pauseOnConnect: true, ...options }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const far = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const [end] = (await once(server, 'connection')) as [Socket];
  server.close();
  onTestFinished(() => {
    end.destroy();
    far.destroy();
  });
  detachFromNode(end);
  return { end, far };
}

/** Whether a process is there. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** The first line that a child says: its process id, in these tests. */
export async function firstNumber({ stdout }: Child): Promise<number> {
  if (stdout === null) throw new Error('it has no standard output');
  const [chunk] = (await once(stdout, 'data')) as [Buffer];
  return Number(chunk.toString());
}

/** Everything on its standard output. */
async function said({ stdout }: Child): Promise<string> {
  return stdout === null ? '' : text(stdout);
}

export function describeStarter(name: string, make: () => Starter): void {
  describe(`commands that are started by ${name}`, () => {
    let starter: Starter;

    beforeEach(() => {
      starter = make();
    });

    afterEach(() => starter.close());

    async function run(...command: string[]): Promise<ChildEnding & { readonly stdout: string }> {
      const child = await starter.start(command, { stdin: 'ignore', stdout: 'pipe' });
      const stdout = await said(child);
      return { ...(await child.ended), stdout };
    }

    it('say what they say, and how they ended', async () => {
      expect(await run('sh', '-c', 'echo out; echo err >&2; exit 3')).toEqual({
        exitCode: 3,
        started: true,
        stderr: 'err\n',
        stdout: 'out\n',
      });
      expect(await run('true')).toEqual({ exitCode: 0, started: true, stderr: '', stdout: '' });
    });

    it('get their words as they are, without a shell, and speak in words that can be recognised', async () => {
      expect((await run('printf', '%s|', 'a b', "'$HOME'", '')).stdout).toBe("a b|'$HOME'||");
      expect((await run('sh', '-c', 'echo $LC_ALL')).stdout).toBe('C\n');
    });

    it('say a lot, and complain about much, of which the beginning is kept', async () => {
      const { stdout, stderr } = await run('sh', '-c', `head -c ${8 * MIB} /dev/zero; head -c ${MIB} /dev/zero >&2`);
      expect(stdout.length).toBe(8 * MIB);
      expect(stderr.length).toBe(STDERR_BYTES_MAX);
    });

    it('are not started where there is no such program, which is said', async () => {
      const child = await starter.start(['no-such-program', 'list'], { stdin: 'pipe', stdout: 'pipe' });
      expect(await child.ended).toMatchObject({ exitCode: null, started: false });
      expect((await child.ended).stderr).toContain('no-such-program');
      await child.end();
    });

    it.each([
      {
        what: 'more words than the system takes',
        words: ['true', ...Array.from({ length: 40 }, () => 'x'.repeat(100_000))],
      },
      { what: 'a word that is too long', words: ['true', 'x'.repeat(200_000)] },
      { what: 'a word that no program can get', words: ['true', 'a\0b'] },
      { what: 'no program', words: [] },
    ])('are not started with $what, and the next one is', async ({ words }) => {
      const child = await starter.start(words, { stdin: 'ignore', stdout: 'pipe' });
      const { started, stderr } = await child.ended;
      expect(started).toBe(false);
      expect(stderr).not.toBe('');
      await child.end();
      expect(await run('true')).toMatchObject({ exitCode: 0, started: true });
    });

    it('take what is written to them', async () => {
      const child = await starter.start(['wc', '-c'], { stdin: 'pipe', stdout: 'pipe' });
      child.stdin?.write(Buffer.alloc(3 * MIB));
      child.stdin?.end('end');
      expect(await said(child)).toBe(`${3 * MIB + 3}\n`);
      expect((await child.ended).exitCode).toBe(0);
    });

    it('may end before they have taken all of it', async () => {
      const child = await starter.start(['head', '-c', '1'], { stdin: 'pipe', stdout: 'pipe' });
      child.stdin?.write(Buffer.alloc(8 * MIB));
      expect(await said(child)).toBe('\0');
      expect((await child.ended).exitCode).toBe(0);
    });

    it('write to a connection that is theirs, to the last byte, and this end of it can still be ended', async () => {
      const { end, far } = await connection();
      const received = text(far);
      const child = await starter.start(['head', '-c', String(8 * MIB), '/dev/zero'], { stdin: 'ignore', stdout: end });
      expect(child.stdout).toBeNull();
      expect((await child.ended).exitCode).toBe(0);
      end.end();
      expect((await received).length).toBe(8 * MIB);
    });

    it('read from a connection that is theirs, from its first byte on', async () => {
      const { end, far } = await connection();
      far.write('first ');
      const child = await starter.start(['cat'], { stdin: end, stdout: 'pipe' });
      expect(child.stdin).toBeNull();
      far.end('last');
      expect(await said(child)).toBe('first last');
      expect((await child.ended).exitCode).toBe(0);
    });

    it('end with the far end of a connection that they write to, of which something was read before', async () => {
      const { end, far } = await connection({ allowHalfOpen: false });
      far.pause();
      far.write('ticket');
      end.read(0);
      await once(end, 'readable');
      expect(String(end.read())).toBe('ticket');
      detachFromNode(end);
      const child = await starter.start(['cat', '/dev/zero'], { stdin: 'ignore', stdout: end });
      endWithFarEnd(end);
      far.end();
      expect(await child.ended).toMatchObject({ exitCode: null, started: true });
    });

    it('leave no pipe open here once they have ended', async () => {
      const child = await starter.start(['true'], { stdin: 'pipe', stdout: 'ignore' });
      await child.ended;
      expect(child.stdin?.destroyed).toBe(true);
    });

    it('are not started on a connection that is closed', async () => {
      const { end } = await connection();
      end.destroy();
      await once(end, 'close');
      const child = await starter.start(['cat'], { stdin: end, stdout: 'pipe' });
      expect(await child.ended).toMatchObject({ exitCode: null, started: false });
    });

    it('run side by side, however many', async () => {
      const numbers = Array.from({ length: 100 }, (_, index) => index);
      const ran = await Promise.all(
        numbers.map(async (number) => {
          const { end, far } = await connection();
          far.end(`${number}`);
          const child = await starter.start(['cat'], { stdin: end, stdout: 'pipe' });
          return said(child);
        }),
      );
      expect(ran).toEqual(numbers.map(String));
    });

    it('are ended when that is asked for, with all that they have started, by force if need be', async () => {
      const child = await starter.start(['sh', '-c', 'trap "" TERM; sleep 1000 & echo $!; wait; sleep 1000'], {
        stdin: 'ignore',
        stdout: 'pipe',
      });
      const below = await firstNumber(child);
      await child.end();
      expect(await child.ended).toMatchObject({ exitCode: null, started: true });
      await expect.poll(() => isAlive(below)).toBe(false);
    });

    it('are ended when it closes, and none is started after that', async () => {
      const child = await starter.start(['sh', '-c', 'echo $$; exec sleep 1000'], { stdin: 'ignore', stdout: 'pipe' });
      const pid = await firstNumber(child);
      await starter.close();
      expect(isAlive(pid)).toBe(false);
      expect(await child.ended).toMatchObject({ exitCode: null, started: true });
      expect(await run('true')).toMatchObject({ exitCode: null, started: false });
    });
  });
}
