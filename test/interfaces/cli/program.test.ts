/** What all commands have in common: help, usage errors, exit codes, and what a terminal may be sent. */
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { describe, expect, test, vi } from 'vitest';
import { ERROR_CODES, PandoError } from '../../../src/core/errors.ts';
import type { CliDependencies } from '../../../src/interfaces/cli/dependencies.ts';
import { EXIT, EXIT_CODE_OF_ERROR } from '../../../src/interfaces/cli/exit-codes.ts';
import { Output } from '../../../src/interfaces/cli/output.ts';
import { buildProgram } from '../../../src/interfaces/cli/program.ts';
import { HttpClient } from '../../../src/interfaces/http/client.ts';
import { pando, TextSink } from '../served-world.ts';

const dependencies: CliDependencies = {
  version: '1.2.3',
  serve: async () => undefined,
  client: (socket) => new HttpClient(socket),
  readIdentity: async () => null,
  rotateKey: async () => 2,
  loadConfig: async () => ({ socket: '/nowhere', dataDirectory: '/nowhere' }),
  stdout: new TextSink(),
  stderr: new TextSink(),
  isTTY: false,
  columns: () => 80,
  now: () => 0,
  onInterrupt: () => () => undefined,
};

/** Every command below one, with the words that lead to it. */
function commandsBelow(command: Command, words: readonly string[] = []): { words: string[]; command: Command }[] {
  return command.commands.flatMap((one) => {
    const path = [...words, one.name()];
    return [{ words: path, command: one }, ...commandsBelow(one, path)];
  });
}

const everyCommand = commandsBelow(buildProgram(dependencies, new Output(dependencies), () => undefined)).map(
  ({ words, command }) => ({
    name: words.join(' '),
    words,
    command,
  }),
);

describe('the help', () => {
  test('knows the commands of the design', () => {
    expect(everyCommand.map(({ name }) => name)).toEqual(
      [
        ['serve', 'status', 'id', 'id rotate'],
        ['tree', 'tree ls', 'tree add', 'tree rm'],
        ['peer', 'peer ls', 'peer add', 'peer invite', 'peer join', 'peer invitations', 'peer withdraw', 'peer rm'],
        ['grant', 'grant ls', 'grant add', 'grant rm'],
        ['limit', 'limit ls', 'limit set', 'limit rm', 'limit contributions'],
        ['mirror', 'mirror ls', 'mirror add', 'mirror set', 'mirror rm'],
        [
          'sync',
          'plan',
          'graph',
          'log',
          'audit',
          'snapshot',
          'clone',
          'promote',
          'rename',
          'rollback',
          'destroy',
          'own',
          'verify',
        ],
        ['diverged', 'diverged ls', 'diverged restore', 'diverged drop'],
        ['layers', 'layers init', 'layers ls', 'layers gc', 'layers export'],
        ['image', 'image extract', 'image ls', 'image export', 'image rm'],
        ['root', 'root create', 'root ls', 'root commit', 'root rm'],
        ['snapshots', 'snapshots ls', 'snapshots tree', 'snapshots info', 'snapshots usage'],
        ['snapshots prepare', 'snapshots view', 'snapshots mounts'],
        ['snapshots commit', 'snapshots rm', 'snapshots label'],
      ].flat(),
    );
  });

  test.each(everyCommand)('of "$name" describes it, its arguments and its options', async ({ words, command }) => {
    expect(command.description()).not.toBe('');
    for (const argument of command.registeredArguments) expect(argument.description, argument.name()).not.toBe('');
    for (const option of command.options) expect(option.description, option.flags).not.toBe('');
    const { code, stdout, stderr } = await pando([...words, '--help']);
    expect({ code, stderr }).toEqual({ code: EXIT.ok, stderr: '' });
    expect(stdout).toContain(`Usage: pando ${words.join(' ')}`);
    expect(stdout).toContain('--json');
  });

  test.each(everyCommand.filter(({ words }) => words.length === 1))('of "$name" has examples', async ({ words }) => {
    expect((await pando([...words, '--help'])).stdout).toContain(`\nExamples:\n  pando ${words[0]}`);
  });

  test('is what pando without a command shows, on standard error', async () => {
    const { code, stdout, stderr } = await pando([]);
    expect({ code, stdout }).toEqual({ code: EXIT.usage, stdout: '' });
    expect(stderr).toContain('Usage: pando');
  });

  test('has the version', async () => {
    expect(await pando(['--version'])).toEqual({ code: EXIT.ok, stdout: '1.2.3\n', stderr: '' });
  });
});

describe('what was typed wrong ends with 2 and one sentence', () => {
  test.each([
    { why: 'an unknown command', words: ['snyc'], says: 'unknown command' },
    { why: 'an unknown command of a group', words: ['tree', 'list'], says: 'unknown command' },
    { why: 'an unknown option', words: ['sync', '--fresh'], says: 'unknown option' },
    { why: 'a missing argument', words: ['tree', 'add', 'images'], says: "missing required argument 'dataset'" },
    { why: 'an argument too many', words: ['status', 'now'], says: 'too many arguments' },
    { why: 'a missing option', words: ['mirror', 'add', 'images'], says: '--from' },
    { why: 'a choice that there is not', words: ['graph', 'images', '--format', 'svg'], says: 'Allowed choices' },
  ])('$why', async ({ words, says }) => {
    const { code, stdout, stderr } = await pando(words);
    expect({ code, stdout }).toEqual({ code: EXIT.usage, stdout: '' });
    expect(stderr).toMatch(/^pando: [^\n]+\n$/);
    expect(stderr).toContain(says);
  });

  test('with --json it is an object', async () => {
    const { stderr } = await pando(['sync', '--fresh', '--json']);
    expect(JSON.parse(stderr)).toMatchObject({ code: 'ARGUMENT_INVALID', evidence: {} });
  });
});

describe('a failure', () => {
  const failing = (error: unknown) => ({
    overrides: {
      loadConfig: async () => {
        throw error;
      },
    },
  });

  test('is one sentence, never a stack', async () => {
    const run = await pando(['status'], failing(new PandoError('CONFIG_INVALID', 'Wrong at pando.yaml:1:1.')));
    expect(run).toEqual({ code: EXIT.usage, stdout: '', stderr: 'pando: Wrong at pando.yaml:1:1.\n' });
    const bug = await pando(['status'], failing(new TypeError('x is not a function')));
    expect(bug).toEqual({ code: EXIT.failed, stdout: '', stderr: 'pando: x is not a function\n' });
  });

  test('is an object with --json, wherever that stands', async () => {
    const error = new PandoError('CONFIG_INVALID', 'Wrong.', { line: 1 });
    const expected = { code: 'CONFIG_INVALID', message: 'Wrong.', evidence: { line: 1 } };
    for (const words of [
      ['--json', 'tree', 'ls'],
      ['tree', '--json', 'ls'],
      ['tree', 'ls', '--json'],
    ]) {
      expect(JSON.parse((await pando(words, failing(error))).stderr)).toEqual(expected);
    }
  });

  test('of every code has an exit code that is no success', () => {
    for (const code of ERROR_CODES) expect(Object.values(EXIT).slice(1), code).toContain(EXIT_CODE_OF_ERROR[code]);
  });
});

describe('serve', () => {
  test('runs the node with the configuration that was named', async () => {
    const serve = vi.fn(async () => undefined);
    expect((await pando(['serve', '--config', 'here.yaml'], { overrides: { serve } })).code).toBe(EXIT.ok);
    expect((await pando(['serve'], { overrides: { serve } })).code).toBe(EXIT.ok);
    expect(serve.mock.calls).toEqual([['here.yaml'], [undefined]]);
  });

  test('takes no socket: that stands in the configuration', async () => {
    const serve = vi.fn(async () => undefined);
    expect((await pando(['serve', '--socket', 'x.sock'], { overrides: { serve } })).code).toBe(EXIT.usage);
    expect(serve).not.toHaveBeenCalled();
  });
});

test('a named socket makes the configuration unneeded', async () => {
  const loadConfig = vi.fn();
  const { code } = await pando(['status', '--socket', '/nowhere/x.sock'], { overrides: { loadConfig } });
  expect(code).toBe(EXIT.unreachable);
  expect(loadConfig).not.toHaveBeenCalled();
});

describe('the output', () => {
  function output(isTTY: boolean) {
    const stdout = new TextSink();
    const stderr = new TextSink();
    return { stdout, stderr, output: new Output({ stdout, stderr, isTTY, columns: () => 20 }) };
  }

  test('shows characters that would steer a terminal instead of sending them', () => {
    const { stdout, stderr, output: written } = output(true);
    written.line('a\u001b[31mb\nc\u009b');
    written.complain(new PandoError('INTERNAL', 'x\u0007y'), false);
    expect(stdout.text).toBe('a\\x1b[31mb\\x0ac\\x9b\n');
    expect(stderr.text).toBe('pando: x\\x07y\n');
  });

  test('keeps progress to one line of the terminal, and off anything else', () => {
    const terminal = output(true);
    terminal.output.progress('0123456789012345678901234567890');
    terminal.output.line('done');
    expect(terminal.stderr.text).toBe('\r\u001b[2K0123456789012345678\r\u001b[2K');
    const file = output(false);
    file.output.progress('working');
    expect(file.stderr.text).toBe('');
  });
});

test('docs/operations.md names every command and every exit code', async () => {
  const page = await readFile(new URL('../../../docs/operations.md', import.meta.url), 'utf8');
  for (const { words } of everyCommand) expect(page).toContain(`pando ${words[0]}`);
  for (const code of Object.values(EXIT)) expect(page).toContain(`| ${code} | `);
});

describe('a reader', () => {
  class BrokenPipe extends TextSink {
    readonly #code: string;

    constructor(code: string) {
      super();
      this.#code = code;
    }

    override _write(_chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
      done(Object.assign(new Error(`write ${this.#code}`), { code: this.#code }));
    }
  }

  test('that goes away early is no failure', async () => {
    expect(await pando(['--help'], { stdout: new BrokenPipe('EPIPE') })).toMatchObject({ code: EXIT.ok, stderr: '' });
  });

  test('that cannot take what is written is one', async () => {
    const run = await pando(['--help'], { stdout: new BrokenPipe('ENOSPC') });
    expect(run).toMatchObject({ code: EXIT.failed, stderr: 'pando: The output could not be written: write ENOSPC.\n' });
  });
});
