/**
 * The grammar of a filter (containerd, `filters/parser.go`):
 *
 *     filter    = selector ("," selector)*
 *     selector  = path [operator value]
 *     path      = field ("." field)*
 *     field     = [A-Za-z0-9_]+ | quoted
 *     operator  = "==" | "!=" | "~="
 *     value     = anything up to a comma or a space | quoted
 *
 * Spaces may stand before a word, not behind the last one of a selector.
 */
import { FilterScanner, type Token } from './filter-scanner.ts';

/** What one selector asks of a field. */
export type Selector =
  | { readonly path: readonly string[]; readonly operator: 'present' }
  | { readonly path: readonly string[]; readonly operator: '==' | '!='; readonly value: string }
  | {
      readonly path: readonly string[];
      readonly operator: '~=';
      readonly value: string;
      /** The error for this value, should it be no pattern. */
      readonly fault: (what: string) => Error;
    };

function isOperator(text: string): text is '==' | '!=' | '~=' {
  return text === '==' || text === '!=' || text === '~=';
}

class FilterParser {
  readonly #scanner: FilterScanner;

  constructor(text: string) {
    this.#scanner = new FilterScanner(text);
  }

  selectors(): Selector[] {
    const found = [this.#selector()];
    while (this.#scanner.peek() === ',') {
      this.#scanner.next();
      found.push(this.#selector());
    }
    if (this.#scanner.peek() === '') return found;
    throw this.#scanner.fault(this.#scanner.position, 'a comma or the end is expected');
  }

  #selector(): Selector {
    const path = this.#path();
    const after = this.#scanner.peek();
    if (after === ',' || after === '') return { path, operator: 'present' };
    const operator = this.#operator();
    const token = this.#scanner.next();
    const value = this.#value(token, operator === '~=');
    if (operator !== '~=') return { path, operator, value };
    return { path, operator, value, fault: (what) => this.#scanner.fault(token.at, what) };
  }

  #path(): string[] {
    const path = [this.#field()];
    while (this.#scanner.peek() === '.') {
      this.#scanner.next();
      path.push(this.#field());
    }
    return path;
  }

  #field(): string {
    const token = this.#scanner.next();
    if (token.kind === 'field') return token.text;
    if (token.kind === 'quoted') return this.#unquoted(token, false);
    throw this.#scanner.fault(token.at, 'a field is expected, as letters and digits or in double quotes');
  }

  #operator(): '==' | '!=' | '~=' {
    const { kind, text, at } = this.#scanner.next();
    if (kind === 'operator' && isOperator(text)) return text;
    throw this.#scanner.fault(at, 'one of the operators ==, != and ~= is expected');
  }

  #value(token: Token, isPattern: boolean): string {
    if (token.kind === 'value') return token.text;
    if (token.kind === 'quoted') return this.#unquoted(token, isPattern);
    throw this.#scanner.fault(token.at, 'a value is expected');
  }

  /** Slashes and bars quote patterns only. */
  #unquoted({ text, quote, at }: Token, isPattern: boolean): string {
    if (isPattern || quote === '"') return text;
    throw this.#scanner.fault(at, 'only double quotes can stand here');
  }
}

/** Reads a filter that is not empty; all of its selectors have to match. Throws `ARGUMENT_INVALID`, which tells where it cannot be read. */
export function parseSelectors(text: string): readonly Selector[] {
  return new FilterParser(text).selectors();
}
