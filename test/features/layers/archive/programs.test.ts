import { tmpdir } from 'node:os';
import { expect, it } from 'vitest';
import { runProgram } from '../../../../src/features/layers/archive/programs.ts';

function perl(script: string): Promise<string | null> {
  const { signal } = new AbortController();
  return runProgram({ program: 'perl', words: ['-e', script], directory: tmpdir(), signal });
}

it('A program that ends well complains of nothing', async () => {
  expect(await perl('print STDERR "by the way\n"')).toBeNull();
});

it('A program that fails says why, or how it ended where it says nothing', async () => {
  expect(await perl('print STDERR "no room\n"; exit 3')).toBe('no room');
  expect(await perl('exit 3')).toBe('it ended with code 3');
  expect(await perl('kill 9, $$')).toBe('it ended with SIGKILL');
});
