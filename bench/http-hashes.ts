/** How many passwords bare bcrypt checks in a time, two at once. Arguments: hash, password, seconds. Prints the number a second. */
import bcrypt from "bcrypt";

const [hash = "", password = "", seconds] = process.argv.slice(2);
const start = performance.now();
const end = start + Number(seconds) * 1_000;
let checked = 0;
await Promise.all(
  [1, 2].map(async () => {
    while (performance.now() < end) {
      await bcrypt.compare(password, hash);
      checked += 1;
    }
  }),
);
console.log((checked / (performance.now() - start)) * 1_000);
