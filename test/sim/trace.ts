/** What happened in a world, as a digest: two runs with the same one went the same way. And as lines, for whoever looks for what went wrong. */

const FNV_PRIME = 0x01000193;
const FNV_BASIS = 0x811c9dc5;

export class Trace {
  readonly #say: ((line: string) => void) | null;
  readonly #number = new Float64Array(1);
  readonly #words = new Uint32Array(this.#number.buffer);
  #forward = FNV_BASIS | 0;
  #backward = ~FNV_BASIS;

  /** `say` takes a line for each event, when somebody wants to read them. */
  constructor(say: ((line: string) => void) | null = null) {
    this.#say = say;
  }

  /** Something happened at a moment (virtual ms) to somebody. */
  note(at: number, who: string, what: string): void {
    this.#number[0] = at;
    this.#mix(this.#words[0] ?? 0);
    this.#mix(this.#words[1] ?? 0);
    for (let index = 0; index < who.length; index += 1) this.#mix(who.charCodeAt(index));
    for (let index = 0; index < what.length; index += 1) this.#mix(what.charCodeAt(index));
    if (this.#say !== null) this.#say(`${(at / 1000).toFixed(6)} ${who}: ${what}`);
  }

  /** Something that only readers want to know. */
  remark(at: number, who: string, what: () => string): void {
    if (this.#say !== null) this.#say(`${(at / 1000).toFixed(6)} ${who}:   ${what()}`);
  }

  /** 16 hexadecimal digits. */
  get digest(): string {
    return [this.#forward, this.#backward].map((part) => (part >>> 0).toString(16).padStart(8, '0')).join('');
  }

  /** FNV-1a over words (Fowler, Noll, Vo), twice from different beginnings. */
  #mix(word: number): void {
    this.#forward = Math.imul(this.#forward ^ word, FNV_PRIME);
    this.#backward = Math.imul(this.#backward ^ (word + (this.#forward >>> 15)), FNV_PRIME);
  }
}
