/** Clients' own grammars that are refused before they are compiled, and those that are not. */
import { expect, it } from 'vitest';
import { GrammarError } from '../../../gpu-origin/grammar/ebnf.ts';
import { checkedGrammar } from '../../../gpu-origin/grammar/grammar-core.ts';

const refusal = (text: string): string | null => {
  try {
    expect(checkedGrammar(text)).toBe(text);
    return null;
  } catch (error) {
    if (error instanceof GrammarError) return error.message;
    throw error;
  }
};

it.each([
  ['s', 's ::= s'],
  ['s', 'root ::= s\ns ::= s s | ""'],
  ['s', 'root ::= s\ns ::= s s s | s s | [a-z] | ""'],
  ['root', 'root ::= (root) | "b"'],
  ['a', 'root ::= "x" a\na ::= b | "x"\nb ::= blank a blank | "y"\nblank ::= [ ]*'],
  ['list', 'root ::= list\nlist ::= item? list{1,2} item{0,3} | "x"\nitem ::= "i"'],
])('names the rule %s, which derives itself alone: %s', (rule, text) => {
  expect(refusal(text)).toContain(`rule '${rule}' that derives itself`);
});

it.each([
  'root ::= e\ne ::= e "+" e | e "*" e | [0-9]+ | "(" e ")"',
  'root ::= s\ns ::= s s | [a-z]',
  'root ::= list\nlist ::= item list | ""\nitem ::= "x" ","?',
  'root ::= a{2}\na ::= root | "x"',
  'root ::= ("a"? | "b")*',
  'root ::= "\\"" ([^"\\\\] | "\\\\" ["\\\\n])* "\\""',
  // What is not written so is the compiler's to refuse.
  'root ::= (',
  's ::= s)',
])('leaves %s to the compiler', (text) => {
  expect(refusal(text)).toBeNull();
});

it('reads deep groups and many repetitions of one thing', () => {
  expect(refusal(`root ::= ${'('.repeat(150)}root${')'.repeat(150)} | "a"`)).toContain("rule 'root'");
  expect(refusal(`root ::= ${'('.repeat(10_000)}"a"${')'.repeat(10_000)}`)).toBeNull();
  expect(refusal(`root ::= "a"${'?'.repeat(10_000)}`)).toBeNull();
});
