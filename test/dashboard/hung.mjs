// Opens the page of a worker that hung in Chromium: node hung.mjs CHROMIUM URL [PICTURE]. Prints what it found as JSON, and writes the picture.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const require = createRequire(new URL('../e2e/node/package.json', import.meta.url))
const { chromium } = require('playwright-core')
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')

const [executablePath, url, picture] = process.argv.slice(2)
const found = { heading: '', stack: '', wide: [], violations: [] }
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
const page = await (await browser.newContext({ viewport: { width: 1280, height: 720 } })).newPage()
await page.goto(url)
const hung = page.locator('section', { has: page.locator('pre') })
found.heading = await hung.locator('h2').textContent()
found.stack = await hung.locator('pre').textContent()
for (const [width, colorScheme] of [[360, 'light'], [1600, 'dark'], [1280, 'light']]) {
  await page.setViewportSize({ width, height: 720 })
  await page.emulateMedia({ colorScheme })
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
  if (over > 0) found.wide.push(`at ${width}: ${over}`)
  await page.evaluate(axe)
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
  for (const v of violations) found.violations.push(`${width} ${colorScheme}: ${v.id}: ${v.nodes[0].html}`)
}
if (picture) await page.screenshot({ path: picture })
await browser.close()
console.log(JSON.stringify(found))
