/** The constructor of asynchronous functions is no global: it is what one was made with. */
const AsyncFunction = (async () => undefined).constructor as new (
  body: string,
) => () => Promise<unknown>;

/** What a last statement may begin with so that no line before it goes on in it, with or without a semicolon. */
const BEGINS_A_STATEMENT = /^(?!(?:in|instanceof)\b)[\w$"'!]/;

/**
 * Makes a function of a script that may `await` and `import()`. It gives the value of the script's last
 * statement, if that is an expression.
 *
 * @throws SyntaxError
 */
export function compile(script: string): () => Promise<unknown> {
  const source = script.replace(/[;\s]+$/, "");
  for (const start of statementStarts(source)) {
    const [before, last] = [source.slice(0, start), source.slice(start)];
    const isApart =
      start === 0 || /;\s*$/.test(before) || BEGINS_A_STATEMENT.test(last.trimStart());
    if (isApart && isBody(before) && isBody(`return (${last}\n)`)) {
      return new AsyncFunction(`${before}\nreturn (${last}\n)`);
    }
  }
  return new AsyncFunction(source);
}

/** Where the last statement could begin: at a line, after a semicolon, or with the script; the last one first. */
function statementStarts(source: string): number[] {
  const ends = [...source.matchAll(/[\n;]/g)].map(({ index }) => index + 1);
  return [...ends.toReversed(), 0];
}

function isBody(text: string): boolean {
  try {
    return typeof new AsyncFunction(text) === "function";
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}
