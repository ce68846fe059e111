//! Names of form fields among the keys of attributes: `email`, `userEmail`, `first_name`, `téléphone`, `адрес`, `lat`.

use crate::record::AttributeValue;

use super::fold::{is_unseen, plain};

/// Fields whose value is a text: of a number they are a count. Sorted.
#[rustfmt::skip]
const TEXTS: [&str; 131] = [
    "accountname", "achternaam", "address", "addressline", "adres", "adresse", "anschrift", "apelido", "apellido",
    "apellidos", "benutzername", "calle", "childname", "childsname", "cognome", "contactname", "contrasena",
    "correio", "correo", "correoelectronico", "courriel", "devicename", "direccion", "displayname", "domicilio",
    "email", "emailaddress", "emailid", "emails", "endereco", "epost", "eposta", "familienname", "familyname",
    "fathername", "firstname", "forename", "fullname", "gebruikersnaam", "givenname", "guardianname", "haslo",
    "hausnummer", "homeaddress", "imie", "indirizzo", "kidname", "lastname", "legalname", "loginname", "maidenname",
    "mail", "mailaddress", "mailingaddress", "middlename", "morada", "motdepasse", "mothername", "nachname",
    "nazwisko", "nickname", "nombrecompleto", "nombreusuario", "nomcomplet", "nomdefamille", "nomecompleto",
    "nomeusuario", "nomeutente", "nomutilisateur", "nutzername", "parentname", "passphrase", "passwd", "password",
    "passwort", "playername", "postaladdress", "prenom", "profilename", "pupilname", "realname", "sahkoposti",
    "senha", "sobrenome", "soyad", "soyadi", "spitzname", "straat", "strasse", "street", "streetaddress",
    "streetname", "studentname", "surname", "teachername", "ulica", "username", "voornaam", "vorname", "wachtwoord",
    "wohnort", "yourname", "адрес", "емейл", "имейл", "отчество", "пароль", "почта", "улица", "фамилия",
    "электроннаяпочта", "اسم", "الاسم", "بريد", "ईमेल", "नाम", "パスワード", "メール", "メールアドレス", "住所", "名前", "地址", "姓名",
    "密码", "氏名", "电子邮件", "邮箱", "電子郵件", "이름", "이메일", "주소",
];

/// Fields whose value may be a number. Sorted.
#[rustfmt::skip]
const VALUES: [&str; 116] = [
    "birthdate", "birthday", "birthyear", "breitengrad", "cardnumber", "cellnumber", "cellphone", "cellulare",
    "celular", "cep", "codepostal", "codicefiscale", "codigopostal", "coordinates", "coords", "cpf", "creditcard",
    "datadenascimento", "datadinascita", "datanascimento", "datanascita", "dataurodzenia", "datedenaissance",
    "datenaissance", "dateofbirth", "dob", "dogumtarihi", "fechadenacimiento", "fechanacimiento", "geboortedatum",
    "geburtsdatum", "geburtstag", "geolocation", "geopoint", "gps", "handynummer", "iban", "kodpocztowy",
    "laengengrad", "langengrad", "lat", "latitud", "latitude", "latitudine", "latlng", "latlon", "latlong", "lng",
    "lon", "longitud", "longitude", "longitudine", "mobileno", "mobilenumber", "mobilephone", "movil", "msisdn",
    "numerodetelefono", "numerodetelephone", "numeroditelefono", "numerotelefono", "numerotelephone", "passport",
    "passportnumber", "pesel", "phone", "phoneno", "phonenumber", "phones", "plz", "postalcode", "postcode",
    "postleitzahl", "rufnummer", "socialsecurity", "socialsecuritynumber", "ssn", "tel", "telefon", "telefone",
    "telefonnummer", "telefono", "telefoon", "telefoonnummer", "telemovel", "telephone", "telephonenumber", "telno",
    "whatsapp", "zipcode", "датарождения", "долгота", "номертелефона", "телефон", "широта", "هاتف", "फोन", "出生日期",
    "手机", "手机号", "生年月日", "生日", "电话", "电话号码", "経度", "緯度", "纬度", "经度", "電話", "電話番号", "경도", "생년월일", "위도", "전화", "전화번호",
    "휴대폰",
];

/// Fields that are told only where the key is nothing else: a `name` may be that of a lesson. Sorted.
#[rustfmt::skip]
const ALONE: [&str; 12] = [
    "handy", "long", "mobile", "naam", "name", "names", "nom", "nombre", "nome", "zip", "имя", "名字",
];

/// A name, which is somebody's beside a word of [`PERSONS`]. Sorted.
#[rustfmt::skip]
const NAMES: [&str; 7] = [
    "naam", "name", "names", "nom", "nombre", "nome", "имя",
];

/// Who may have a name. Sorted.
#[rustfmt::skip]
const PERSONS: [&str; 33] = [
    "bambina", "bambino", "child", "children", "childs", "crianca", "customer", "dad", "eltern", "enfant", "father",
    "guardian", "kid", "kind", "mom", "mother", "mum", "my", "nick", "nina", "nino", "owner", "parent", "person",
    "player", "pupil", "student", "teacher", "user", "usuario", "utente", "utilisateur", "your",
];

/// What is told of a field instead of its value, as the last word of a key. Sorted.
#[rustfmt::skip]
const ABOUT: [&str; 36] = [
    "brand", "changed", "clicked", "consent", "count", "enabled", "error", "format", "hint", "icon", "id", "ids",
    "index", "label", "layout", "len", "length", "model", "opened", "optin", "os", "permission", "required",
    "screen", "shown", "size", "state", "status", "step", "type", "types", "valid", "verified", "version", "view",
    "visible",
];

/// Bytes of a key's words at most. A longer key is no field of a form.
const LONGEST: usize = 96;

/// Words of a key at most.
const WORDS: usize = 12;

/// Words in a row that may make one name: `date_of_birth`, `correo-electronico`.
const JOINED: usize = 3;

/// Whether the key is the name of a form's field about a person, and the value may be what was filled in. `true` and `false`
/// are never: that there is an address is not the address.
pub(super) fn asks_for_a_person(key: &str, value: &AttributeValue<'_>) -> bool {
    let is_number = match value {
        AttributeValue::Bool(_) => return false,
        AttributeValue::Int(_) | AttributeValue::Float(_) => true,
        AttributeValue::Text(_) => false,
    };
    let Some(words) = Words::of(key) else {
        return false;
    };
    let has = |list: &[&str]| words.runs().any(|run| list.binary_search(&run).is_ok());
    if words.count > 1 && ABOUT.binary_search(&words.last()).is_ok() {
        return false;
    }
    if has(&VALUES) {
        return true;
    }
    let all = words.all();
    // `long` is a place beside `lat`; a whole number is a length.
    if all == "long" {
        return matches!(value, AttributeValue::Float(_));
    }
    if is_number {
        return matches!(all, "mobile" | "handy" | "zip");
    }
    let is_named = || {
        let is_in = |list: &[&str]| words.each().any(|word| list.binary_search(&word).is_ok());
        is_in(&NAMES) && is_in(&PERSONS)
    };
    // `useremail`, in small letters throughout.
    has(&TEXTS) || ALONE.binary_search(&all).is_ok() || all.ends_with("email") || is_named()
}

/// The words of a key in small letters, without accents: `parentEMail2` is parent, e, mail.
struct Words {
    text: [u8; LONGEST],
    /// Where each ends in `text`.
    ends: [u8; WORDS],
    count: usize,
}

impl Words {
    /// `None`: the key is none, or too long.
    fn of(key: &str) -> Option<Self> {
        let mut words = Self {
            text: [0; LONGEST],
            ends: [0; WORDS],
            count: 0,
        };
        let (mut length, mut begins) = (0, 0);
        let mut chars = key.chars().filter(|char| !is_unseen(*char)).peekable();
        let (mut was_small, mut was_large) = (false, false);
        while let Some(char) = chars.next() {
            let char = plain(char).map_or(char, char::from);
            let is_large = char.is_uppercase();
            let next_is_small = chars.peek().is_some_and(|next| next.is_lowercase());
            let is_new = is_large && (was_small || (was_large && next_is_small));
            if (is_new || !char.is_alphabetic()) && length > begins {
                *words.ends.get_mut(words.count)? = length as u8;
                words.count += 1;
                begins = length;
            }
            (was_small, was_large) = (char.is_lowercase(), is_large);
            // Of a mark that the alphabet has as a letter, such as a vowel sign, nothing is lost.
            if !char.is_alphabetic() {
                continue;
            }
            for small in char.to_lowercase() {
                let mut encoded = [0; 4];
                let bytes = without_accent(small).encode_utf8(&mut encoded).as_bytes();
                let to = words.text.get_mut(length..length + bytes.len())?;
                to.copy_from_slice(bytes);
                length += bytes.len();
                if small == 'ß' {
                    *words.text.get_mut(length)? = b's';
                    length += 1;
                }
            }
        }
        if length > begins {
            *words.ends.get_mut(words.count)? = length as u8;
            words.count += 1;
        }
        (words.count > 0).then_some(words)
    }

    /// Some words in a row, as one.
    fn part(&self, first: usize, after: usize) -> &str {
        let end = |after: usize| after.checked_sub(1).map_or(0, |at| self.ends[at].into());
        // Whole characters were written, and are cut out again.
        std::str::from_utf8(&self.text[end(first)..end(after)]).unwrap_or_default()
    }

    fn all(&self) -> &str {
        self.part(0, self.count)
    }

    fn last(&self) -> &str {
        self.part(self.count - 1, self.count)
    }

    fn each(&self) -> impl Iterator<Item = &str> {
        (0..self.count).map(|at| self.part(at, at + 1))
    }

    /// Each word, and each few in a row as one.
    fn runs(&self) -> impl Iterator<Item = &str> {
        (0..self.count).flat_map(move |first| {
            let most = (first + JOINED).min(self.count);
            (first + 1..=most).map(move |after| self.part(first, after))
        })
    }
}

/// A small letter of Latin languages as it is written where there are no accents.
const fn without_accent(char: char) -> char {
    match char {
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'è'..='ë' | 'ē' | 'ę' | 'ě' => 'e',
        'ğ' => 'g',
        'ì'..='ï' | 'ı' => 'i',
        'ł' => 'l',
        'ñ' | 'ń' => 'n',
        'ò'..='ö' | 'ø' | 'ő' => 'o',
        'ś' | 'ş' | 'š' | 'ß' => 's',
        'ù'..='ü' | 'ű' => 'u',
        'ź' | 'ż' | 'ž' => 'z',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_and_hold_words_as_keys_are_read() {
        for list in [&TEXTS[..], &VALUES, &ALONE, &NAMES, &PERSONS, &ABOUT] {
            assert!(list.is_sorted(), "{list:?}");
            for word in list {
                assert_eq!(Words::of(word).unwrap().all(), *word);
            }
        }
    }

    #[test]
    fn keys_are_read_as_words() {
        for (key, words) in [
            ("parentEMail2", &["parent", "e", "mail"][..]),
            ("GPSLat", &["gps", "lat"]),
            ("first_name", &["first", "name"]),
            (" Téléphone-Straße ", &["telephone", "strasse"]),
            ("ＥＭＡＩＬ", &["email"]),
            ("e\u{200b}mail", &["email"]),
            ("form[user].name", &["form", "user", "name"]),
        ] {
            let read = Words::of(key).unwrap();
            assert_eq!(read.each().collect::<Vec<_>>(), words, "{key}");
        }
        assert!(Words::of("").is_none());
        assert!(Words::of("123").is_none());
        assert!(Words::of(&"a_".repeat(WORDS + 1)).is_none());
        assert!(Words::of(&"a".repeat(LONGEST + 1)).is_none());
    }
}
