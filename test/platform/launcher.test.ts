/** A node has its commands started by a small process, which is compiled. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Launcher } from '../../src/zfs/cli/children/launcher.ts';
import { connection, describeStarter, firstNumber, isAlive } from '../zfs/cli/starter.contract.ts';

const DIST = fileURLToPath(new URL('../../dist/src/zfs/cli/children/', import.meta.url));
const PROGRAM = `${DIST}program.js`;
const PIPED = { stdin: 'ignore', stdout: 'pipe' } as const;
const SLEEPS = ['sh', '-c', 'echo $$; exec sleep 1000'];

describeStarter('a small process', () => new Launcher(PROGRAM));

/** Small processes that this one has started. */
async function launchers(): Promise<number[]> {
  const { stdout } = await execa('ps', ['--ppid', String(process.pid), '-o', 'pid=,args='], { reject: false });
  const lines = stdout.split('\n').filter((line) => line.includes('pando: starts zfs') || line.includes(PROGRAM));
  return lines.map((line) => Number.parseInt(line, 10));
}

describe('the process that starts commands for a node', () => {
  let launcher: Launcher;

  beforeEach(() => {
    launcher = new Launcher(PROGRAM);
  });

  afterEach(() => launcher.close());

  it('is not there before it is needed, one for all commands, and gone when the node closes it', async () => {
    expect(await launchers()).toEqual([]);
    await Promise.all([1, 2, 3].map(async () => (await launcher.start(['true'], PIPED)).ended));
    expect(await launchers()).toHaveLength(1);
    await launcher.close();
    expect(await launchers()).toEqual([]);
  });

  it('goes on where somebody wants it to end by itself', async () => {
    await (await launcher.start(['true'], PIPED)).ended;
    const [pid = 0] = await launchers();
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.kill(pid, signal);
    expect(await (await launcher.start(['true'], PIPED)).ended).toMatchObject({ exitCode: 0 });
    expect(await launchers()).toEqual([pid]);
  });

  it('is replaced when it was killed, and what it had started is ended before that is said', async () => {
    const { end } = await connection();
    const sleeping = await launcher.start(SLEEPS, PIPED);
    const reading = await launcher.start(['cat'], { stdin: end, stdout: 'pipe' });
    const asleep = await firstNumber(sleeping);
    const [pid = 0] = await launchers();
    process.kill(pid, 'SIGKILL');
    for (const child of [sleeping, reading]) {
      const { exitCode, started, stderr } = await child.ended;
      expect({ exitCode, started }).toEqual({ exitCode: null, started: true });
      expect(stderr).toContain('has ended');
    }
    expect(isAlive(asleep)).toBe(false);
    expect(await (await launcher.start(['true'], PIPED)).ended).toMatchObject({ exitCode: 0 });
    expect(await launchers()).not.toContain(pid);
  });

  it('is replaced when it was killed while the end of a connection was on its way to it', async () => {
    await (await launcher.start(['true'], PIPED)).ended;
    const [pid = 0] = await launchers();
    const { end } = await connection();
    process.kill(pid, 'SIGKILL');
    const reading = await launcher.start(['cat'], { stdin: end, stdout: 'pipe' });
    expect(await reading.ended).toMatchObject({ exitCode: null });
    expect(await (await launcher.start(['true'], PIPED)).ended).toMatchObject({ exitCode: 0 });
  });

  it('refuses a command for which there is no room, and starts the next', async () => {
    await (await launcher.start(['true'], PIPED)).ended;
    const [pid = 0] = await launchers();
    const limit = async (files: number) => execa('prlimit', [`--pid=${pid}`, `--nofile=${files}:1024`]);
    await limit(3);
    const { end, far } = await connection();
    expect(await (await launcher.start(['cat'], { stdin: end, stdout: 'pipe' })).ended).toMatchObject({
      started: false,
    });
    far.destroy();
    await limit(1024);
    expect(await (await launcher.start(['true'], PIPED)).ended).toMatchObject({ exitCode: 0 });
    expect(await launchers()).toEqual([pid]);
  });

  it('lets no command seem to say nothing where there is no room for its output', async () => {
    const script = `
      import { openSync, closeSync } from 'node:fs';
      import { Launcher } from ${JSON.stringify(`${DIST}launcher.js`)};
      const launcher = new Launcher(${JSON.stringify(PROGRAM)});
      const ending = async () => {
        const child = await launcher.start(['sleep', '0.1'], ${JSON.stringify(PIPED)});
        child.stdout?.resume();
        return (await child.ended).exitCode;
      };
      const exitCodes = [await ending()];
      const files = [];
      try { for (;;) files.push(openSync('/dev/null')); } catch {}
      exitCodes.push(await ending());
      files.forEach((file) => closeSync(file));
      exitCodes.push(await ending());
      await launcher.close();
      console.log(JSON.stringify(exitCodes));
    `;
    const words = ['--nofile=256:256', process.execPath, '--input-type=module', '--eval', script];
    const { stdout } = await execa('prlimit', words);
    expect(JSON.parse(stdout)).toEqual([0, null, 0]);
  });

  it('ends with a node that was killed before it took what came from a command', async () => {
    const script = `
      import { Launcher } from ${JSON.stringify(`${DIST}launcher.js`)};
      const launcher = new Launcher(${JSON.stringify(PROGRAM)});
      await (await launcher.start(['true'], ${JSON.stringify(PIPED)})).ended;
      void launcher.start(['sleep', '1000'], ${JSON.stringify(PIPED)});
      setImmediate(() => {
        console.log('busy');
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      });
    `;
    const node = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(node.stdout, 'data');
    const childrenOf = async (pid: number) => {
      const { stdout } = await execa('ps', ['--ppid', String(pid), '-o', 'pid='], { reject: false });
      return stdout
        .split('\n')
        .map(Number)
        .filter((child) => child > 0);
    };
    const [starts = 0] = await childrenOf(node.pid ?? 0);
    await expect.poll(() => childrenOf(starts)).toHaveLength(1);
    const [asleep = 0] = await childrenOf(starts);
    node.kill('SIGKILL');
    await expect.poll(() => isAlive(asleep) || isAlive(starts)).toBe(false);
  });

  it('ends with a node that was killed, and so do the commands that were running', async () => {
    const script = `
      import { Launcher } from ${JSON.stringify(`${DIST}launcher.js`)};
      const child = await new Launcher(${JSON.stringify(PROGRAM)}).start(${JSON.stringify(SLEEPS)}, ${JSON.stringify(PIPED)});
      child.stdout.pipe(process.stdout);
    `;
    const node = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [chunk] = (await once(node.stdout, 'data')) as [Buffer];
    const asleep = Number(chunk.toString());
    const { stdout } = await execa('ps', ['--ppid', String(node.pid), '-o', 'pid=']);
    const starts = Number.parseInt(stdout, 10);
    expect(isAlive(asleep) && isAlive(starts)).toBe(true);
    node.kill('SIGKILL');
    await expect.poll(() => isAlive(asleep) || isAlive(starts)).toBe(false);
  });
});
