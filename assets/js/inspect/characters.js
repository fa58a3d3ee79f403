// @ts-check
// Characters that several tokens share: a token that holds only some bytes of one is written as these bytes
// (lightreasoner/models/token_text.py), such as \xf0\x9f, and the character is found again from its neighbours.

const BYTES = /^(?:\\x[0-9a-f]{2})+|(?:\\x[0-9a-f]{2})+$/g;
const LONGEST = 4; // bytes of a character

const bytesOf = (text) => (text.match(/[0-9a-f]{2}/g) || []).map((pair) => parseInt(pair, 16));
/** @returns {string | null} the characters that these bytes are; null where they are none, or not yet whole */
function decoded(bytes) {
  try { return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes)); } catch { return null; }
}
const startsOne = (byte) => byte >= 0xc2 && byte <= 0xf4, continues = (byte) => byte >= 0x80 && byte < 0xc0;

/**
 * The characters that begin in one token and end in another.
 * @param {string[]} texts of tokens, in order
 * @returns {{ from: number, to: number, text: string }[]} the first and the last token of each
 */
export function sharedCharacters(texts) {
  /** @type {{ token: number, byte: number }[]} */
  const bytes = [];
  const found = [];
  const take = () => {
    for (let i = 0; i < bytes.length; i++) {
      if (!startsOne(bytes[i].byte)) continue;
      let end = i + 1;
      while (end < bytes.length && end - i < LONGEST && continues(bytes[end].byte)) end++;
      const text = decoded(bytes.slice(i, end).map(({ byte }) => byte));
      const from = bytes[i].token, to = bytes[end - 1].token;
      if (text && from < to) found.push({ from, to, text });
      i = end - 1;
    }
    bytes.length = 0;
  };
  texts.forEach((text, token) => {
    const parts = text.match(BYTES) || [], whole = parts[0] === text;
    const add = (part) => bytesOf(part).forEach((byte) => bytes.push({ token, byte }));
    if (whole) { add(text); return; }
    if (parts.length && text.startsWith(parts[0])) add(parts[0]);
    take();
    const last = parts[parts.length - 1];
    if (last && text.endsWith(last) && (parts.length > 1 || !text.startsWith(last))) add(last);
  });
  take();
  return found;
}

/** A response's text from its tokens, with its characters whole. @param {string[]} texts */
export function wholeText(texts) {
  return texts.join('').replace(/(?:\\x[0-9a-f]{2})+/g, (run) => decoded(bytesOf(run)) ?? run);
}
