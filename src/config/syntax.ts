import { type Document, isScalar, visit, type YAMLParseError } from "yaml";
import type { YamlMistake } from "./construct.ts";
import type { TextRange } from "./issue.ts";

interface Explanation {
  readonly message?: string;
  readonly hint?: string;
}

/** What the parser's codes mean to someone who does not know its words. */
const explanations: Readonly<Record<string, Explanation>> = {
  BAD_INDENT: { hint: "Keys of one block start in the same column." },
  TAB_AS_INDENT: { message: "a tab indents this line", hint: "Indent with blanks." },
  BLOCK_AS_IMPLICIT_KEY: {
    message: 'a second ": " in one line',
    hint: 'Put text that holds ": " in quotes.',
  },
  BAD_SCALAR_START: { hint: "Put the text in quotes." },
  BAD_DQ_ESCAPE: { hint: "In double quotes, write \\\\ for a backslash, or use single quotes." },
  MULTILINE_IMPLICIT_KEY: {
    message: 'this line is no "key: value"',
    hint: 'Each line of a block is "key: value"; text that goes on in the next line is indented.',
  },
  MULTIPLE_DOCS: {
    message: "the file holds more than one document",
    hint: 'Leave out the line "---", or make two files.',
  },
};

/**
 * Mistakes because of which a text is no YAML; at most one per line, since the next ones only follow from it. Also
 * characters that YAML does not allow, which the parser lets pass.
 */
export function findSyntaxMistakes(document: Document.Parsed, text: string): YamlMistake[] {
  const lines = new Set<number>();
  const errors = document.errors.filter(({ pos }) => {
    const lineStart = text.lastIndexOf("\n", pos[0] - 1);
    return lines.size < lines.add(lineStart).size;
  });
  return [...errors.map((error) => describe(error, document, text)), ...findControls(text)];
}

function describe(error: YAMLParseError, document: Document.Parsed, text: string): YamlMistake {
  const [start, end] = error.pos;
  if (error.message.startsWith("Missing closing ")) {
    const opened = openQuote(document, start);
    const range = { start: opened ?? start, end: opened === undefined ? end : opened + 1 };
    const hint = `Add the second ${text[range.start] === "'" ? "'" : '"'}.`;
    return { range, message: "this quote is not closed", hint };
  }
  const bracket = /end with a ([\]}])$/.exec(error.message)?.[1];
  if (bracket !== undefined) {
    const opening = bracket === "]" ? "[" : "{";
    return {
      range: { start, end },
      message: `no valid YAML: "${bracket}" is missing here`,
      hint: `Close the "${opening}"; lines between the two are indented.`,
    };
  }
  if (/ at node end$/.test(error.message)) {
    return {
      range: { start, end: start + 1 },
      message: `no valid YAML: unexpected "${text.slice(start, start + 1)}" after the value`,
      hint: "Put text that holds brackets or quotes in quotes.",
    };
  }
  const code = error.message.startsWith("Implicit map key") ? "MULTILINE_IMPLICIT_KEY" : error.code;
  const { message = uncapitalised(error.message), hint } = explanations[code] ?? {};
  return {
    range: error.code === "BAD_INDENT" ? afterBlanks(text, start) : { start, end },
    message: `no valid YAML: ${message}`,
    ...(hint === undefined ? {} : { hint }),
  };
}

/** Where the quoted text begins that the parser found to end at `at`. */
function openQuote(document: Document.Parsed, at: number): number | undefined {
  let start: number | undefined;
  visit(document, {
    Scalar: (_key, node) => {
      const [from, to] = node.range ?? [at, at];
      if (isScalar(node) && node.type?.startsWith("QUOTE") && from < at && to >= at) start = from;
    },
  });
  return start;
}

/** Errors about a line's indentation begin with the line: the first character after it is worth pointing at. */
function afterBlanks(text: string, lineStart: number): TextRange {
  const blanks = /[ \t]*/y;
  blanks.lastIndex = lineStart;
  const start = lineStart + (blanks.exec(text)?.[0].length ?? 0);
  return { start, end: start + 1 };
}

function uncapitalised(message: string): string {
  return message.charAt(0).toLowerCase() + message.slice(1);
}

function findControls(text: string): YamlMistake[] {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
  const found = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.exec(text);
  if (found === null) return [];
  const code = found[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
  return [
    {
      range: { start: found.index, end: found.index + 1 },
      message: `the control character U+${code} is not allowed in YAML`,
      hint: "Remove it; it may not show in your editor.",
    },
  ];
}
