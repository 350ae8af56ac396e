/** The words of a filter, cut as containerd cuts them (`filters/scanner.go` there): what a character begins depends on what stood before it. */
import { PandoError } from '../errors.ts';
import { unquote } from './filter-quotes.ts';

export type TokenKind = 'field' | 'value' | 'quoted' | 'separator' | 'operator' | 'other' | 'end';

export interface Token {
  readonly kind: TokenKind;
  /** Of a quoted one without quotes and escapes. */
  readonly text: string;
  /** The quote of a quoted one: `"`, `/` or `|`. */
  readonly quote?: string;
  /** Index of its first character. */
  readonly at: number;
}

/** How much of a filter an error shows, in characters. */
const SHOWN_CHARACTERS = 20;

const QUOTE = /^["/|]$/;
const SEPARATOR = /^[,.]$/;
const OPERATOR = /^[=!~]$/;
const FIELD = /^[A-Za-z0-9_]$/;
/** Go's `unicode.IsSpace`. */
const SPACE = /^\p{White_Space}$/u;
/** Go's `unicode.IsGraphic` less spaces, and less the comma. */
const VALUE = /^(?!,)[\p{L}\p{M}\p{N}\p{P}\p{S}]$/u;
/** What containerd takes for damage: NUL, and what stands for bytes that are no character. */
const DAMAGED = /^[\0\uFFFD\p{Surrogate}]$/u;

export class FilterScanner {
  readonly #characters: readonly string[];
  #position = 0;
  /** Whether an operator stood last: then anything but quotes, separators and operators begins a value. */
  #expectsValue = false;

  /** Throws `ARGUMENT_INVALID` for a text with characters that no filter may have. */
  constructor(text: string) {
    this.#characters = [...text];
    const damaged = this.#characters.findIndex((character) => DAMAGED.test(character));
    if (damaged >= 0) throw this.fault(damaged, 'this character cannot be in a filter');
  }

  /** The next character as it stands, a space too; empty at the end. */
  peek(): string {
    return this.#characters[this.#position] ?? '';
  }

  /** Where {@link peek} looks. */
  get position(): number {
    return this.#position;
  }

  /** The next word; spaces before it are passed over. Throws `ARGUMENT_INVALID` for quoted text that cannot be read. */
  next(): Token {
    while (SPACE.test(this.peek())) this.#position += 1;
    const at = this.#position;
    const first = this.peek();
    if (first === '') return { kind: 'end', text: '', at };
    if (QUOTE.test(first)) return this.#quoted(at, first);
    this.#position += 1;
    if (SEPARATOR.test(first)) {
      this.#expectsValue = false;
      return { kind: 'separator', text: first, at };
    }
    if (OPERATOR.test(first)) {
      this.#expectsValue = true;
      return { kind: 'operator', text: this.#run(at, OPERATOR), at };
    }
    if (this.#expectsValue) {
      this.#expectsValue = false;
      return { kind: 'value', text: this.#run(at, VALUE), at };
    }
    return FIELD.test(first) ? { kind: 'field', text: this.#run(at, FIELD), at } : { kind: 'other', text: first, at };
  }

  /** The error for what stands at `at`, an index. */
  fault(at: number, what: string): PandoError {
    const rest = this.#characters.slice(at, at + SHOWN_CHARACTERS).join('');
    const place = rest === '' ? 'its end' : `character ${at + 1} (${JSON.stringify(rest)})`;
    return new PandoError('ARGUMENT_INVALID', `The filter cannot be read at ${place}: ${what}.`, {
      filter: this.#characters.join(''),
      character: at + 1,
    });
  }

  /** Takes characters of a kind, and gives them with those since `start`. */
  #run(start: number, kind: RegExp): string {
    while (kind.test(this.peek())) this.#position += 1;
    return this.#characters.slice(start, this.#position).join('');
  }

  #quoted(at: number, quote: string): Token {
    const read = unquote(this.#characters, at);
    if ('fault' in read) throw this.fault(at, read.fault);
    this.#position = read.end;
    return { kind: 'quoted', text: read.text, quote, at };
  }
}
