// A filter above every table inside a ".filterable" block. Plain JavaScript on the page's own table, so it works
// from a file and without a server. A row stays when it contains all the words, in any column and any case.
// A head with data-facet="choice" adds a menu of the column's values (several in a cell are set apart by commas),
// "most" and "least" add a limit of its numbers. In a ".sortable" block the heads sort.
// What was chosen is kept in the address (#filter=...&input=...), so that a filtered list can be linked to.
(function () {
  "use strict";

  function fold(text) {
    return text.toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "");
  }

  function key(text) {
    return fold(text).replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  }

  // The first number of a cell: 4,096 and 1.3 × and 83.1 ± 0.9; null for a dash.
  function number(text) {
    var match = /-?\d[\d,]*(\.\d+)?/.exec(text);
    return match ? parseFloat(match[0].replace(/,/g, "")) : null;
  }

  function fromAddress(name) {
    var match = new RegExp("[#&]" + name + "=([^&]*)").exec(window.location.hash);
    try {
      return match ? decodeURIComponent(match[1].replace(/\+/g, " ")) : "";
    } catch (error) {
      return "";  // a link cut in the middle of a sign
    }
  }

  function toAddress(values) {
    var parts = Object.keys(values).filter(function (name) { return values[name]; }).map(function (name) {
      return name + "=" + encodeURIComponent(values[name]).replace(/%20/g, "+");
    });
    try {
      var place = window.location.pathname + window.location.search;
      window.history.replaceState(null, "", parts.length ? "#" + parts.join("&") : place);
    } catch (error) {
      // Some browsers refuse this for pages opened from a file; the filter works without.
    }
  }

  function words(text) {
    return text.split(",").map(function (word) { return word.trim(); }).filter(Boolean);
  }

  function choices(rows, column) {
    var found = {};
    rows.forEach(function (row) {
      words(row.cells[column]).forEach(function (word) { found[word] = true; });
    });
    return Object.keys(found).sort();
  }

  // A control has a name in the address, an element with a value, and says whether a row fits.
  function menu(rows, column, title) {
    var select = document.createElement("select");
    select.add(new Option("any", ""));
    choices(rows, column).forEach(function (word) { select.add(new Option(word, word)); });
    return {
      element: select, name: key(title), label: title,
      fits: function (row) { return !select.value || words(row.cells[column]).indexOf(select.value) >= 0; }
    };
  }

  function limit(column, title, kind) {
    var input = document.createElement("input");
    input.type = "text";
    input.inputMode = "decimal";
    input.autocomplete = "off";
    input.className = "limit";
    return {
      element: input, name: key(title), label: title + (kind === "most" ? " ≤" : " ≥"),
      spoken: title + (kind === "most" ? ", at most" : ", at least"),
      fits: function (row) {
        var bound = number(input.value);
        var value = number(row.cells[column]);
        return bound === null || (value !== null && (kind === "most" ? value <= bound : value >= bound));
      }
    };
  }

  function search(rows, block) {
    var input = document.createElement("input");
    input.type = "search";
    input.autocomplete = "off";
    input.spellcheck = false;
    input.placeholder = "words in any column";
    input.setAttribute("aria-controls", block.id);
    return {
      element: input, name: "filter", label: "Filter",
      fits: function (row) {
        return fold(input.value).split(/\s+/).every(function (word) { return row.text.indexOf(word) >= 0; });
      }
    };
  }

  function sortable(table, rows) {
    var heads = Array.prototype.slice.call(table.tHead.rows[0].cells);
    heads.forEach(function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      var title = head.querySelector("p") || head;  // Sphinx wraps the text of a head
      while (title.firstChild) {
        button.appendChild(title.firstChild);
      }
      title.appendChild(button);
      button.addEventListener("click", function () {
        var down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(table, rows, column, down ? -1 : 1);
      });
    });
  }

  // By number where every cell but dashes begins with one, else by text; what has no value comes last.
  function sort(table, rows, column, direction) {
    var filled = rows.filter(function (row) { return !/^[–-]?$/.test(row.cells[column]); });
    var numeric = filled.every(function (row) { return /^[-\d]/.test(row.cells[column]); });
    function value(row) {
      return numeric ? number(row.cells[column]) : fold(row.cells[column]);
    }
    filled.sort(function (a, b) {
      return direction * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0);
    });
    var empty = rows.filter(function (row) { return filled.indexOf(row) < 0; });
    filled.concat(empty).forEach(function (row) { table.tBodies[0].appendChild(row.element); });
  }

  function equip(block, number_) {
    var table = block.querySelector("table");
    if (!table || !table.tBodies.length) {
      return;
    }
    var rows = Array.prototype.map.call(table.tBodies[0].rows, function (row) {
      var cells = Array.prototype.map.call(row.cells, function (cell) { return cell.textContent.trim(); });
      return { element: row, cells: cells, text: fold(row.textContent) };
    });
    var controls = [search(rows, block)];
    Array.prototype.forEach.call(table.tHead ? table.tHead.rows[0].cells : [], function (head, column) {
      var facet = head.querySelector("[data-facet]");
      if (facet) {
        var kind = facet.getAttribute("data-facet");
        var title = head.textContent.trim();
        controls.push(kind === "choice" ? menu(rows, column, title) : limit(column, title, kind));
      }
    });
    var box = document.createElement("div");
    box.className = "filter-box";
    box.setAttribute("role", "search");
    box.setAttribute("aria-label", "Filter of table " + (number_ + 1));
    var output = document.createElement("output");
    output.setAttribute("aria-live", "polite");
    controls.forEach(function (control, i) {
      var label = document.createElement("label");
      control.element.id = "filter-" + number_ + (i ? "-" + control.name : "");
      label.htmlFor = control.element.id;
      label.textContent = control.label;
      if (control.spoken) {
        control.element.setAttribute("aria-label", control.spoken);
      }
      var pair = document.createElement("span");
      pair.className = "filter-pair" + (i ? "" : " filter-words");
      pair.appendChild(label);
      pair.appendChild(control.element);
      box.appendChild(pair);
    });
    output.htmlFor = controls.map(function (control) { return control.element.id; }).join(" ");
    box.appendChild(output);
    block.insertBefore(box, block.firstChild);

    function apply() {
      var shown = 0;
      rows.forEach(function (row) {
        var fits = controls.every(function (control) { return control.fits(row); });
        row.element.hidden = !fits;
        shown += fits ? 1 : 0;
      });
      var chosen = controls.some(function (control) { return control.element.value.trim(); });
      output.textContent = chosen ? shown + " of " + rows.length : rows.length + " rows";
    }

    function changed() {
      var values = {};
      controls.forEach(function (control) { values[control.name] = control.element.value.trim(); });
      apply();
      toAddress(values);
    }

    function read() {
      controls.forEach(function (control) { control.element.value = fromAddress(control.name); });
      apply();
    }

    controls.forEach(function (control) {
      control.element.addEventListener("input", changed);
      control.element.addEventListener("keydown", function (event) {
        if (event.key === "Escape") {
          control.element.value = "";
          changed();
        }
      });
    });
    if (block.classList.contains("sortable") && table.tHead) {
      sortable(table, rows);
    }
    read();
    // A link to one row must not lead to a hidden one.
    window.addEventListener("hashchange", read);
  }

  document.addEventListener("DOMContentLoaded", function () {
    Array.prototype.forEach.call(document.querySelectorAll(".filterable"), equip);
  });
})();
